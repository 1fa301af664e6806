//! What a person can do about an error, in one text. Whoever finds an error names the remedy; only here are flags,
//! files and commands named.

use std::fmt;
use std::time::Duration;

use crate::image::reference::{Host, Location, Repository};
use crate::util::text;

/// What helps against an [`super::Error`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// The certificate is of an authority that nobody has named; `none_here` where the system has none at all.
    Authority { none_here: bool },
    /// The same where the certificate need not be verified either.
    AuthorityOrNone { none_here: bool },
    /// The target answers without TLS.
    PlainTarget,
    /// A source answers without TLS.
    PlainSource,
    /// TLS is spoken where the user wrote `http://`.
    Tls,
    /// This host wants to see a certificate of ours.
    ClientCertificate(Host),
    /// This proxy before the target is spoken to over TLS, which would not be verified.
    ProxyUnverified(String),
    /// The proxy wants a login.
    ProxyLogin,
    /// The proxy is told addresses, and the name has none here.
    ProxyLooksUp,
    /// No login for this host is known.
    LogIn(Host),
    /// A credential helper that was named for this host has no login for it.
    HelperHasNone { helper: String, host: Host },
    /// The login from here was refused.
    LoginRefused(String),
    /// The login from here is good, but not for this.
    LoginNotEnough(String),
    /// The host wants to be shown what is not spoken here: these schemes.
    UnknownSchemes(Vec<String>),
    /// A challenge does not say where tokens are.
    NoTokenService,
    /// A rate limit is used up; the host says for how long.
    RateLimit(Option<Duration>),
    /// The same for longer than the user would wait.
    RateLimitTooLong(Duration),
    /// Tags are immutable there.
    TagsImmutable,
    /// The user wants what is there to be left alone.
    NotClobbered,
    /// This repository has to be made at Amazon's registry.
    CreateAtAmazon(Repository),
    /// The repository or what it is in has to be made.
    Create,
    /// The login has no right to push, or there is nothing to push to.
    MayNotPush,
    /// A body is too large for someone on the way.
    BodyLimit,
    /// The target does not take writes.
    ReadOnly,
    /// The manifest is larger than the user lets it be.
    LargerManifests,
    /// Layers that are not to be copied keep the target from taking the manifest.
    ForeignLayers,
    /// The target may not take manifests of this media type.
    MediaType(String),
    /// A manifest was taken, and its copy there is damaged all the same.
    DeleteManifest(Location),
    /// This file was written, and does not hold what was written into it.
    UnsoundDisk(String),
    /// A tag has another digest than is recorded of it.
    Moved,
    /// Files that lack content may have been saved for some platforms alone.
    SavedPlatforms,
    /// Files leave out what the target should have.
    Base,
    /// One file cannot have so many bytes there.
    SplitArchive,
    /// Content that the target should have is missing or damaged there.
    Repair,
    /// The same where every run looks for that.
    RunAgain,
    /// What is whole or nothing may be made without what has failed.
    AllowIncomplete,
    /// An index within an index that names what is not wanted.
    NestedIndex,
    /// A digest is pinned, of an index that names what is not wanted.
    PinnedIndex,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority { none_here } => f.write_str(authority(*none_here)),
            Self::AuthorityOrNone { none_here } => {
                write!(f, "{}, --insecure does without", authority(*none_here))
            }
            Self::PlainTarget => f.write_str("--insecure allows plain HTTP"),
            Self::PlainSource => f.write_str("--source-mirror HOST=http://… allows plain HTTP"),
            Self::Tls => f.write_str("it speaks TLS: leave out http://"),
            Self::ClientCertificate(host) => write!(
                f,
                "it wants a certificate of ours: client.cert and client.key in ~/.config/containers/certs.d/{host}"
            ),
            Self::ProxyUnverified(proxy) => write!(
                f,
                "with --insecure the certificate of the proxy {proxy} would not be verified either; \
                 NO_PROXY keeps the target away from it"
            ),
            Self::ProxyLogin => f.write_str("its address may hold one, as in http://user:password@host:port"),
            Self::ProxyLooksUp => f.write_str("socks5h:// lets the proxy look names up"),
            Self::LogIn(host) => write!(f, "no login for it is known; try docker login {host}"),
            Self::HelperHasNone { helper, host } => {
                write!(f, "docker-credential-{helper} has no login for {host}")
            }
            Self::LoginRefused(origin) => write!(f, "the login from {origin} was refused"),
            Self::LoginNotEnough(origin) => write!(f, "the login from {origin} is not enough for this"),
            Self::UnknownSchemes(schemes) => {
                write!(f, "it offers only {}, which this program does not speak", text::list(schemes))
            }
            Self::NoTokenService => f.write_str("its challenge names no usable token service"),
            Self::RateLimit(None) => f.write_str("its rate limit is used up"),
            Self::RateLimit(Some(wish)) => {
                write!(f, "its rate limit is used up: it asks to wait {}", text::duration(*wish))
            }
            Self::RateLimitTooLong(wish) => write!(
                f,
                "its rate limit is used up: it asks to wait {}, longer than --max-wait",
                text::duration(*wish)
            ),
            Self::SavedPlatforms => f.write_str(
                "if it was saved for some platforms only, --platform names those; else save it again",
            ),
            Self::TagsImmutable => f.write_str("its tags are immutable, and this one names something else"),
            Self::NotClobbered => f.write_str("--no-clobber leaves it alone"),
            Self::CreateAtAmazon(repository) => {
                write!(f, "aws ecr create-repository --repository-name {repository}")
            }
            Self::Create => f.write_str("the repository or project may have to be created first"),
            Self::MayNotPush => {
                f.write_str("the login may not push there, or the project has to be created first")
            }
            Self::BodyLimit => f.write_str(
                "a body size limit, of the registry or of a proxy before it (nginx: client_max_body_size)",
            ),
            Self::ReadOnly => f.write_str("is it read-only, or no registry at all?"),
            Self::LargerManifests => f.write_str("--max-manifest-size allows up to 16 MiB"),
            Self::ForeignLayers => f.write_str(
                "it names layers that are not to be copied; docker-registry takes them where \
                 validation.manifests.urls allows their addresses",
            ),
            Self::MediaType(media_type) => {
                write!(f, "the target may not accept {media_type}; nothing is converted silently")?;
                if media_type.starts_with("application/vnd.docker.") {
                    f.write_str(": let it take Docker's types (zot: \"compat\": [\"docker2s2\"])")?;
                }
                Ok(())
            }
            Self::DeleteManifest(location) => write!(
                f,
                "its copy there is damaged, and is not replaced by being pushed: delete {location} there, or its file \
                 in the registry's storage, and run again"
            ),
            Self::UnsoundDisk(file) => {
                write!(f, "what is written into {file} does not stay what it was: is the disk sound?")
            }
            Self::Moved => f.write_str("--accept-moved takes it as it is now"),
            Self::Base => f.write_str(
                "load what it builds on first, or name that by --from as well; else save it without --have",
            ),
            Self::SplitArchive => f.write_str("--split fat32, or another size, writes it in parts"),
            Self::Repair => f.write_str("--repair sends again what is missing or damaged"),
            Self::AllowIncomplete => f.write_str("--allow-incomplete writes it without them"),
            Self::RunAgain => f.write_str("a run writes again what is missing or damaged"),
            Self::NestedIndex => f.write_str(
                "an index within an index cannot be cut, and the target takes none that names what is not \
                 there: take all platforms",
            ),
            Self::PinnedIndex => f.write_str(
                "its digest is pinned, and would change without the other platforms: take all platforms, or \
                 allow it by --platform-repin",
            ),
        }
    }
}

fn authority(none_here: bool) -> &'static str {
    if none_here {
        "--ca-file names the authority to trust; this system has none, so only public ones are"
    } else {
        "--ca-file names the authority to trust"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn a_remedy_names_only_flags_that_there_are() {
        let host: Host = "r.example.com".parse().unwrap();
        let remedies = [
            Remedy::Authority { none_here: true },
            Remedy::AuthorityOrNone { none_here: false },
            Remedy::PlainTarget,
            Remedy::PlainSource,
            Remedy::ClientCertificate(host.clone()),
            Remedy::ProxyUnverified("p:1".to_owned()),
            Remedy::LogIn(host),
            Remedy::RateLimitTooLong(Duration::from_secs(9000)),
            Remedy::NotClobbered,
            Remedy::LargerManifests,
            Remedy::PinnedIndex,
            Remedy::Repair,
            Remedy::SplitArchive,
            Remedy::Moved,
            Remedy::Base,
            Remedy::AllowIncomplete,
        ];
        let command = Cli::command();
        let known: Vec<&str> = command.get_arguments().filter_map(|argument| argument.get_long()).collect();
        let mut named = 0;
        for remedy in remedies {
            let told = remedy.to_string();
            let words = told.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            for flag in words.filter_map(|word| word.strip_prefix("--")) {
                assert!(known.contains(&flag), "--{flag} in {told:?}");
                named += 1;
            }
        }
        assert_eq!(named, 16);
    }
}
