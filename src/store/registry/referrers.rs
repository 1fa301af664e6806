//! What refers to a manifest: signatures, SBOMs, attestations (distribution-spec 1.1, "Listing Referrers").
//!
//! A registry either lists referrers itself, or it keeps what clients write into an index under a tag that is made of
//! the digest. Which of the two it does is found out once for each host, and by nothing that says less than that.

use reqwest::header::{CONTENT_TYPE, LINK};
use reqwest::{Method, Response, Url};

use super::Registry;
use super::answer::Purpose;
use super::client::At;
use crate::error::{Cause, Code, Error, Kind};
use crate::image::manifest::{Content, Descriptor, Manifest, OCI_INDEX};
use crate::image::reference::{Algorithm, Digest, Location, Repository, TagOrDigest};
use crate::store::REFERRERS_MAX;

/// Most pages of one list that are read.
const PAGES_MAX: usize = 32;

/// Whose fault it is that there is no list.
enum Lack {
    /// It does not know of lists.
    OfThisHost,
    /// It does not know the repository.
    OfThisRepository,
    /// It does not let us see it.
    OfTheRight,
    /// That cannot be told.
    Unclear,
}

impl Registry {
    /// What refers to `subject`, whether or not the registry knows how to list it.
    ///
    /// # Errors
    /// The registry cannot be asked, refuses, or lists more than anyone needs. That nothing refers to it is no error.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        let mut refusal = None;
        if !self.observed.has_no_referrers_api() {
            match self.listed_referrers(repository, subject).await {
                Ok(listed) => {
                    self.observed.note_list();
                    return Ok(listed);
                }
                Err(error) => match self.lack_of_list(&error) {
                    Lack::OfThisHost => self.note_no_referrers_api(&error),
                    Lack::OfThisRepository => {}
                    Lack::OfTheRight => refusal = Some(error),
                    Lack::Unclear => return Err(error),
                },
            }
        }
        let location = tag_of(repository, subject);
        match self.get_manifest(&location, None).await {
            Ok(index) => {
                let listed = entries(index);
                self.check_length(&listed, &format!("GET manifest {location}"))?;
                Ok(listed)
            }
            Err(error) if error.kind == Kind::NotFound => refusal.map_or(Ok(Vec::new()), Err),
            Err(error) => Err(error),
        }
    }

    /// What an error says of the registry's ability to list referrers. One that has listed some is not suspected.
    fn lack_of_list(&self, error: &Error) -> Lack {
        let unknown_repository = error.has(Code::NameUnknown);
        let known_to_list = self.observed.lists_referrers();
        match error.kind {
            _ if matches!(error.cause, Cause::NoList(_)) && !known_to_list => Lack::OfThisHost,
            _ if error.status.is_none() => Lack::Unclear,
            Kind::NotFound if unknown_repository || known_to_list => Lack::OfThisRepository,
            Kind::NotFound | Kind::Unsupported => Lack::OfThisHost,
            Kind::Invalid if error.status == Some(400) && !known_to_list => Lack::OfThisHost,
            Kind::Denied | Kind::Unauthorized => Lack::OfTheRight,
            _ => Lack::Unclear,
        }
    }

    fn check_length(&self, listed: &[Descriptor], action: &str) -> Result<(), Error> {
        if listed.len() <= REFERRERS_MAX {
            return Ok(());
        }
        let why = format!("its list has more than {REFERRERS_MAX} entries");
        Err(self.error(Kind::Corrupt, action.to_owned(), why))
    }

    /// Makes `manifest` findable by what it refers to, at a registry that does not do so itself
    /// (distribution-spec, "Pushing Manifests with Subject").
    ///
    /// # Errors
    /// The registry does not take the index that lists it, or has something else in its place.
    pub async fn register_referrer(&self, repository: &Repository, manifest: &Manifest) -> Result<(), Error> {
        let Some((subject, descriptor)) = manifest.as_referrer() else { return Ok(()) };
        let location = tag_of(repository, &subject);
        let known = match self.get_manifest(&location, None).await {
            Ok(index) => Some(index),
            Err(error) if error.kind == Kind::NotFound => None,
            Err(error) => return Err(error),
        };
        if known.as_ref().is_some_and(|known| known.names(&manifest.digest)) {
            return Ok(());
        }
        let list = |lost: &[Digest]| {
            Manifest::listing(known.as_ref(), &descriptor, lost).ok_or_else(|| {
                let why = "what is there is no list of referrers".to_owned();
                self.error(Kind::Invalid, format!("add to the list {location}"), why)
            })
        };
        let error = match self.put_manifest(&location, &list(&[])?).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        // What was listed may be gone by now, and registries differ in whether they mind.
        let lost = match &error.kind {
            Kind::BlobUnknown(lost) if !lost.is_empty() => lost,
            _ => return Err(error),
        };
        let again = self.put_manifest(&location, &list(lost)?).await;
        again.map(drop).map_err(|error| Error { kind: Kind::Invalid, ..error })
    }

    async fn listed_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        let action = format!("GET referrers of {repository}@{subject}");
        let mut at = At::Path(format!("/v2/{repository}/referrers/{subject}"));
        let mut listed = Vec::new();
        for _ in 0..PAGES_MAX {
            let call = self.call(Method::GET, Purpose::Manifest, repository, at, action.clone());
            let response = self.ask(&call.accept(OCI_INDEX)).await?;
            let next = self.next_page(&response, &action)?;
            listed.extend(self.read_list(response, &action).await?);
            self.check_length(&listed, &action)?;
            match next {
                Some(url) => at = At::Url(url),
                None => return Ok(listed),
            }
        }
        Err(self.error(Kind::Corrupt, action, format!("its list has more than {PAGES_MAX} pages")))
    }

    async fn read_list(&self, response: Response, action: &str) -> Result<Vec<Descriptor>, Error> {
        let media_type =
            response.headers().get(CONTENT_TYPE).and_then(|t| t.to_str().ok()).map(str::to_owned);
        let is_list = media_type.as_deref().is_some_and(|t| t.starts_with(OCI_INDEX));
        if !is_list {
            let what = media_type.unwrap_or_else(|| "something without a type".to_owned());
            return Err(self.error(Kind::Invalid, action.to_owned(), Cause::NoList(what)));
        }
        let bytes = self.read_manifest_bytes(response, action).await?;
        if is_null(&bytes) {
            return Ok(Vec::new());
        }
        let index = Manifest::parse(bytes, media_type.as_deref(), Algorithm::Sha256);
        index.map(entries).map_err(|e| self.error(Kind::Invalid, action.to_owned(), e.to_string()))
    }

    /// Where the list goes on (RFC 8288): at this very host, or nowhere.
    fn next_page(&self, response: &Response, action: &str) -> Result<Option<Url>, Error> {
        let link = response.headers().get(LINK).and_then(|link| link.to_str().ok());
        let Some(target) = link.and_then(next_in) else { return Ok(None) };
        let next = response.url().join(target).ok().filter(|next| next.origin() == response.url().origin());
        match next {
            Some(next) if self.is_own(&next) => Ok(Some(next)),
            _ => {
                let why = "the next page of its list is on another host".to_owned();
                Err(self.error(Kind::Corrupt, action.to_owned(), why))
            }
        }
    }

    fn note_no_referrers_api(&self, error: &Error) {
        if self.observed.note_no_referrers_api() {
            let why = error.cause.shown(&error.redactor);
            tracing::info!("{} lists no referrers ({why}): asking for its tags instead", self.host);
        }
    }
}

/// The tag that lists what refers to `subject` (distribution-spec, "Referrers Tag Schema").
fn tag_of(repository: &Repository, subject: &Digest) -> Location {
    let text: String = subject.as_str().replacen(':', "-", 1);
    // The hash is cut after 64 digits, which only one of SHA-512 is longer than.
    let length = text.len().min(subject.as_str().find(':').unwrap_or(0) + 1 + 64);
    let tag = text[..length].parse().expect("an algorithm and hexadecimal digits make a tag");
    Location { repository: repository.clone(), name: TagOrDigest::Tag(tag) }
}

/// Whether a list is null, as Go writes one that it has not made.
fn is_null(list: &[u8]) -> bool {
    let json = serde_json::from_slice::<serde_json::Value>(list);
    json.is_ok_and(|json| json.get("manifests").is_some_and(serde_json::Value::is_null))
}

fn entries(index: Manifest) -> Vec<Descriptor> {
    match index.content {
        Content::Index(entries) => entries,
        Content::Image(_) => Vec::new(),
    }
}

/// The target of the link to the next page: `<URL>; rel="next"`.
fn next_in(link: &str) -> Option<&str> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\"") || part.contains("rel=next"))?;
    next.trim().strip_prefix('<')?.split_once('>').map(|(target, _)| target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_made_of_the_digest() {
        let repository: Repository = "a/b".parse().unwrap();
        let tag = |algorithm| {
            let location = tag_of(&repository, &Digest::of(algorithm, b""));
            location.name.as_str().to_owned()
        };
        assert_eq!(
            tag(Algorithm::Sha256),
            "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(tag(Algorithm::Sha512).len(), "sha512-".len() + 64);
    }

    #[test]
    fn links_to_the_next_page_are_found() {
        assert_eq!(next_in("</v2/a/referrers/d?n=1>; rel=\"next\""), Some("/v2/a/referrers/d?n=1"));
        assert_eq!(next_in("</p>; rel=\"prev\", <https://r/n>; rel=next"), Some("https://r/n"));
        for none in ["", "</p>; rel=\"prev\"", "rel=\"next\"", "</open; rel=\"next\""] {
            assert_eq!(next_in(none), None, "{none}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_link_makes_the_parser_fail(text in ".{0,80}|<.{0,40}>; rel=next.{0,9}") {
            let _ = next_in(&text);
        }
    }
}
