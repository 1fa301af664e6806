//! Whether an upload is closed: which answers are believed, and what a look at the blob itself says of the others.

use reqwest::header::CONTENT_LENGTH;
use reqwest::{Method, Response, StatusCode};

use super::super::answer::Purpose;
use super::super::failure::is_web_page;
use super::super::{Registry, blobs};
use crate::error::{Code, Error, Kind};
use crate::image::manifest::Descriptor;
use crate::image::reference::Repository;
use crate::store::patience::Patience;

impl Registry {
    /// Judges the answer to the request that closes the upload of `blob`. 201 alone says that the blob is stored
    /// (distribution-spec, "Pushing a blob monolithically"), and no web page does; nor does an answer that came before the
    /// blob was sent `whole`, read and verified. A HEAD of the blob decides where the answer leaves doubt.
    ///
    /// # Errors
    /// The registry has not stored the blob.
    pub(super) async fn judge_closing(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        doing: String,
        answer: Result<Response, Error>,
        whole: bool,
    ) -> Result<(), Error> {
        let error = match answer {
            Ok(response) => match self.doubt(&response, doing, whole) {
                None => return Ok(()),
                Some(error) => error,
            },
            Err(error) => error,
        };
        let patient = !error.kind.may_pass();
        let has_landed = leaves_doubt(&error) && self.has_landed(repository, blob, patient).await;
        if has_landed { Ok(()) } else { Err(error) }
    }

    /// Why an answer of success is not believed.
    fn doubt(&self, response: &Response, doing: String, whole: bool) -> Option<Error> {
        let status = response.status();
        let (kind, why) = if is_web_page(response.headers()) {
            (Kind::Invalid, format!("it answers {} with a web page", status.as_u16()))
        } else if status != StatusCode::CREATED {
            (
                Kind::Invalid,
                format!("it answers {} where only 201 says that the blob is stored", status.as_u16()),
            )
        } else if !whole {
            (Kind::Transient, "it says that the blob is stored before it was sent to its end".to_owned())
        } else {
            return None;
        };
        Some(Error { status: Some(status.as_u16()), ..self.error(kind, doing, why) })
    }

    /// Whether the repository has the blob in its size. It is asked once where the blob is sent again otherwise, and with
    /// patience where it would fail.
    async fn has_landed(&self, repository: &Repository, blob: &Descriptor, patient: bool) -> bool {
        let (digest, size) = (&blob.digest, blob.size);
        let action = format!("HEAD blob {digest} of {repository}");
        let path = blobs::path(repository, digest);
        let call = self.call(Method::HEAD, Purpose::Blob, repository, path, action);
        let answer = if patient {
            self.ask(&call).await
        } else {
            self.ask_in_turn(&call, &mut Patience::new(&self.policy)).await
        };
        let length = answer.ok().filter(|response| !is_web_page(response.headers()));
        let length = length
            .and_then(|response| response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok());
        length == Some(size)
    }
}

/// Whether the blob may be stored all the same: some registries fail at what comes after, or say that what was sent twice
/// is there already. Damaged bytes are not stored by anyone who says so.
fn leaves_doubt(error: &Error) -> bool {
    let is_damage = error.has(Code::DigestInvalid) || error.has(Code::SizeInvalid);
    matches!(error.status, Some(200..=299 | 400 | 409 | 500)) && !is_damage
}
