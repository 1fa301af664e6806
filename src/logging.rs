//! Messages on standard error, as loud as the user wants them.

use mirror_images::cli::Format;
use mirror_images::options::OutputOptions;
use mirror_images::progress::LogWriter;
use tracing_subscriber::EnvFilter;

pub(crate) fn start_logging(output: &OutputOptions, writer: LogWriter) {
    let level = match (output.quiet, output.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "warn,mirror_images=info",
        (_, 2) => "warn,mirror_images=debug",
        (_, _) => "warn,mirror_images=trace",
    };
    // The verifier logs at error level what the failed request reports anyway.
    let filter =
        std::env::var("RUST_LOG").unwrap_or_else(|_| format!("{level},rustls_platform_verifier=off"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(writer)
        .with_target(false)
        .with_ansi(false)
        .log_internal_errors(false);
    match output.log_format {
        Format::Json => builder.json().init(),
        Format::Text => builder.without_time().init(),
    }
}
