//! The many ways to write a `Location`.

use std::fmt;
use std::sync::Arc;

use url::Url;

#[derive(Clone)]
pub enum Form {
    /// `/v2/…`
    PathOnly,
    /// The last segment alone, relative to the request.
    NoLeadingSlash,
    /// `//host/v2/…`
    SchemeRelative,
    Scheme(&'static str),
    /// Another `host:port`.
    Host(String),
    /// Text added to the query as it is, with its own `&`.
    ExtraQuery(&'static str),
    Fragment,
    Custom(Arc<dyn Fn(&str) -> String + Send + Sync>),
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Form")
    }
}

impl Form {
    pub fn custom(write: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(write))
    }

    /// Rewrites an absolute location without touching the encoding of its query.
    pub(super) fn write(&self, location: &str) -> String {
        let url = Url::parse(location).expect("our registry answers absolute locations");
        let path = &location[url[..url::Position::BeforePath].len()..];
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        match self {
            Self::PathOnly => path.to_owned(),
            Self::NoLeadingSlash => {
                let end = path.find('?').unwrap_or(path.len());
                let start = path[..end].rfind('/').map_or(0, |slash| slash + 1);
                path[start..].to_owned()
            }
            Self::SchemeRelative => format!("//{authority}{path}"),
            Self::Scheme(scheme) => format!("{scheme}://{authority}{path}"),
            Self::Host(host) => format!("{}://{host}{path}", url.scheme()),
            Self::ExtraQuery(extra) => format!("{location}{extra}"),
            Self::Fragment => format!("{location}#part"),
            Self::Custom(write) => write(location),
        }
    }
}
