//! The arguments of the command line.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    time::Duration,
};

use account::{AuthArguments, LoginArguments, LogoutArguments};
use clap::{Args, FromArgMatches as _, Parser, Subcommand, ValueEnum, value_parser};
use help::{
    CACHE_NOTES, CARVE_EXAMPLES, EXAMPLES, PEEK_EXAMPLES, TOC_BUILD_NOTES, TOC_NOTES, TOC_PUSH_NOTES,
};
use layerslayer::Verification;

pub(crate) mod account;
mod help;

/// Look inside container images without pulling them
#[derive(Debug, Parser)]
#[command(
    name = "layerslayer",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 100,
    after_help = EXAMPLES
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) invocation: Invocation,
}

/// Upper limit of `--timeout` in milliseconds: 30 days.
const MAX_TIMEOUT_MS: u64 = 30 * 24 * 3_600_000;

const NOT_A_DURATION: &str =
    "not a duration: expected a number from 1 with an optional suffix ms, s, m or h, at most 30 days";

/// Upper limit of `--parallel-layers`.
const MOST_PARALLEL_LAYERS: i64 = 16;

/// The command to run.
#[derive(Debug, Subcommand)]
pub(crate) enum Invocation {
    Auth(AuthArguments),
    Cache(CacheArguments),
    #[command(flatten)]
    Image(Command),
    Login(LoginArguments),
    Logout(LogoutArguments),
    Toc(TocArguments),
}

/// Build and share layer TOCs, and create signing keys
#[derive(Args, Debug)]
#[command(arg_required_else_help = true, max_term_width = 100, after_help = TOC_NOTES)]
pub(crate) struct TocArguments {
    #[command(subcommand)]
    pub(crate) action: TocAction,
}

/// The subcommands of `toc`.
#[derive(Debug, Subcommand)]
pub(crate) enum TocAction {
    Build(TocBuildArguments),
    /// Create a signing key: the private key goes to a new file, the public key to stdout
    Keygen {
        /// Write the private key to FILE, which must not exist
        #[arg(short, long, value_name = "FILE", default_value = "layerslayer-toc.pem")]
        output: PathBuf,
    },
    Push(TocPushArguments),
}

/// Push the signed TOCs of an image to its registry, as an artifact that refers to the image
#[derive(Args, Debug)]
#[command(arg_required_else_help = true, after_help = TOC_PUSH_NOTES)]
pub(crate) struct TocPushArguments {
    /// NAME[:TAG][@DIGEST]
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Read every layer of an image once and cache its TOC, so that later commands need one request per file
#[derive(Args, Debug)]
#[command(arg_required_else_help = true, after_help = TOC_BUILD_NOTES)]
pub(crate) struct TocBuildArguments {
    /// NAME[:TAG][@DIGEST], oci:DIR[:TAG|@DIGEST] or oci-archive:FILE[:TAG]
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Show, shrink or clear the cache of layer TOCs
#[derive(Args, Debug)]
#[command(arg_required_else_help = true, max_term_width = 100, after_help = CACHE_NOTES)]
pub(crate) struct CacheArguments {
    #[command(subcommand)]
    pub(crate) action: CacheAction,
}

/// The subcommands of `cache`.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheAction {
    /// Remove all cached files
    Clear,
    /// Evict least recently used entries and leftovers of interrupted runs
    Gc {
        /// Shrink the cache to at most BYTES, a number with an optional suffix K, M or G [default: the size limit]
        #[arg(long, value_name = "BYTES", value_parser = size)]
        size: Option<u64>,
    },
    /// List the cached TOCs: digest of the layer, size, last use, entries
    Ls {
        /// Print JSON Lines
        #[arg(long)]
        json: bool,
    },
    /// Print the path of the cache directory
    Path,
}

/// The commands that read an image.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Carve(CarveArguments),
    Peek(PeekArguments),
    /// `toc build`; [`TocAction`] parses it.
    #[command(skip)]
    TocBuild(TocBuildArguments),
    /// `toc push`; [`TocAction`] parses it.
    #[command(skip)]
    TocPush(TocPushArguments),
}

impl Command {
    /// The options that all commands share.
    pub(crate) fn common(&self) -> &Common {
        match self {
            Self::Carve(arguments) => &arguments.common,
            Self::Peek(arguments) => &arguments.common,
            Self::TocBuild(arguments) => &arguments.common,
            Self::TocPush(arguments) => &arguments.common,
        }
    }

    /// Whether to print the requests.
    pub(crate) fn explains(&self) -> bool {
        matches!(self, Self::Carve(arguments) if arguments.explain)
    }

    /// The image reference as given.
    pub(crate) fn image(&self) -> &str {
        match self {
            Self::Carve(arguments) => &arguments.image,
            Self::Peek(arguments) => &arguments.image,
            Self::TocBuild(arguments) => &arguments.image,
            Self::TocPush(arguments) => &arguments.image,
        }
    }

    /// The name of the subcommand.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Carve(_) => "carve",
            Self::Peek(_) => "peek",
            Self::TocBuild(_) => "toc build",
            Self::TocPush(_) => "toc push",
        }
    }
}

/// Extract a file, directories or whatever a pattern matches
#[derive(Args, Debug)]
#[command(arg_required_else_help = true, max_term_width = 100, after_help = CARVE_EXAMPLES)]
pub(crate) struct CarveArguments {
    /// NAME[:TAG][@DIGEST], oci:DIR[:TAG|@DIGEST], oci-archive:FILE[:TAG] or docker-archive:FILE[:REF|@N]
    pub(crate) image: String,
    /// Paths in the image, taken literally
    #[arg(value_name = "PATH", required_unless_present_any = ["globs", "layer"])]
    pub(crate) paths: Vec<OsString>,
    /// Extract all paths that match PATTERN (`*` does not match `/`, `**` does); repeatable
    #[arg(long = "glob", value_name = "PATTERN", conflicts_with = "paths")]
    pub(crate) globs: Vec<OsString>,
    /// Search only this layer: an index (0 is the base) or at least 6 digits of a digest. Without PATH, extract its blob as stored
    #[arg(long, value_name = "N|DIGEST")]
    pub(crate) layer: Option<String>,
    /// Write to FILE, or below DIR/ if it ends in a slash or exists; `-` is stdout, even for binary content on a terminal
    #[arg(short, long, value_name = "FILE|DIR/")]
    pub(crate) output: Option<PathBuf>,
    /// Write a tar archive to stdout or `-o FILE`
    #[arg(long)]
    pub(crate) tar: bool,
    /// Print to stderr which layers, links and whiteouts decided the result, and every request
    #[arg(long)]
    pub(crate) explain: bool,
    /// Restore owners, set-user-ID and set-group-ID bits and extended attributes in files that `-o` writes
    #[arg(long, requires = "output", conflicts_with = "tar")]
    pub(crate) same_permissions: bool,
    /// Create device nodes below `-o DIR/`, which only root may do
    #[arg(long, requires = "output", conflicts_with = "tar")]
    pub(crate) devices: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Show the layers and configuration of an image, or list the contents of its layers
#[derive(Args, Debug)]
#[command(arg_required_else_help = true, max_term_width = 100, after_help = PEEK_EXAMPLES)]
pub(crate) struct PeekArguments {
    /// NAME[:TAG][@DIGEST], oci:DIR[:TAG|@DIGEST], oci-archive:FILE[:TAG] or docker-archive:FILE[:REF|@N]
    pub(crate) image: String,
    /// List only entries that match; requires --all, --layer or --rootfs
    #[arg(value_name = "GLOB")]
    pub(crate) globs: Vec<OsString>,
    /// List the contents of every layer, base first
    #[arg(long, conflicts_with_all = ["layers", "rootfs"])]
    pub(crate) all: bool,
    /// List the contents of this layer: an index (0 is the base) or at least 6 digits of a digest; repeatable
    #[arg(long = "layer", value_name = "N|DIGEST", conflicts_with = "rootfs")]
    pub(crate) layers: Vec<String>,
    /// List the merged file system as a container sees it, with the layer of each entry
    #[arg(long)]
    pub(crate) rootfs: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Options of every command that reads an image.
#[derive(Args, Debug)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// Select this platform of a multi-platform image [default: linux on this machine's architecture]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// Print JSON Lines
    #[arg(long)]
    pub(crate) json: bool,
    /// Write a JSON report of the result, requests, bytes and time to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Print only content that is verified: `span` (the default), `chunk`, which also trusts the TOC of the publisher, or
    /// `blob`, which reads and hashes whole layers
    #[arg(
        long,
        value_name = "LEVEL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "span",
        hide_possible_values = true
    )]
    pub(crate) verify: Option<Verify>,
    /// Contact registries over HTTP instead of HTTPS
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// Allow redirects to HOST and token servers there although the registry is less private
    #[arg(long, value_name = "HOST")]
    pub(crate) allow_host: Vec<String>,
    /// Trust the CA certificates in FILE (PEM) in addition to the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Authenticate with this user name
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    pub(crate) username: Option<String>,
    /// Read the password from stdin
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
    /// Do not read or write the cache
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Limit network transfer to BYTES, a number with an optional suffix K, M or G
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) max_bytes: Option<u64>,
    /// Limit the temporary copy of a compressed or piped image archive to this many bytes [default: 16G]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) max_unpacked: Option<u64>,
    /// Give up after DURATION, a number with an optional suffix ms, s, m or h [default suffix: s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Read up to N layers in parallel when all layers are read [default: depends on the number of cores]
    #[arg(long, value_name = "N", value_parser = value_parser!(u8).range(1..=MOST_PARALLEL_LAYERS))]
    pub(crate) parallel_layers: Option<u8>,
    /// Show the requests that would be made, without reading any layer
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not print progress, notes or warnings
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print a summary of requests, bytes and time when done
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl Common {
    /// The minimum verification level of everything that is printed.
    pub(crate) fn min_verification(&self) -> Verification {
        match self.verify {
            None => Verification::None,
            Some(Verify::Blob) => Verification::Blob,
            Some(Verify::Chunk) => Verification::Chunk,
            Some(Verify::Span) => Verification::Span,
        }
    }
}

/// The values of `--verify`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Verify {
    /// Whole blobs that match their digest.
    Blob,
    /// Content that matches a TOC of the publisher, too.
    Chunk,
    /// Content that an earlier verified pass or a trusted key covers, or whole blobs.
    Span,
}

/// Parses the arguments, starting with the program name. Invoked as `peek` or `carve`, the program is that subcommand.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let invoked = arguments.first().map(Path::new).and_then(Path::file_stem).and_then(OsStr::to_str);
    let invocation = match invoked {
        Some("carve") => {
            let matches = alone::<CarveArguments>("carve").try_get_matches_from(arguments)?;
            Invocation::Image(Command::Carve(CarveArguments::from_arg_matches(&matches)?))
        }
        Some("peek") => {
            let matches = alone::<PeekArguments>("peek").try_get_matches_from(arguments)?;
            Invocation::Image(Command::Peek(PeekArguments::from_arg_matches(&matches)?))
        }
        _ => return Arguments::try_parse_from(arguments),
    };
    Ok(Arguments { invocation })
}

fn size(text: &str) -> Result<u64, &'static str> {
    layerslayer::parse_size(text)
        .ok_or("not a size: expected a number of bytes with an optional suffix K, M or G")
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(NOT_A_DURATION),
    };
    let number: u64 = number.parse().map_err(|_| NOT_A_DURATION)?;
    match number.checked_mul(milliseconds) {
        Some(milliseconds @ 1..=MAX_TIMEOUT_MS) => Ok(Duration::from_millis(milliseconds)),
        _ => Err(NOT_A_DURATION),
    }
}

fn alone<A: Args>(name: &'static str) -> clap::Command {
    A::augment_args(clap::Command::new(name).version(env!("CARGO_PKG_VERSION")))
}

#[cfg(test)]
mod tests;
