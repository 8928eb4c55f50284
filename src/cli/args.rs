//! What can be said on the command line.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use account::{AuthArguments, LoginArguments, LogoutArguments};
use clap::{Args, FromArgMatches as _, Parser, Subcommand, ValueEnum, value_parser};
use layerslayer::Verification;

pub(crate) mod account;

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

const EXAMPLES: &str = "\
Examples:
  layerslayer peek nginx:alpine                     layers and configuration; reads no layer
  layerslayer peek nginx:alpine --rootfs 'etc/*'    what a container sees, by name
  layerslayer carve ubuntu:24.04 /etc/passwd        one file, to stdout
  layerslayer carve oci:build/image /app -o out/    a directory, from an OCI layout

Exit status: 0 done, 1 other failure, 2 usage, 3 not in the image, 4 deleted by a newer layer, \
5 not a file, 6 not authorised, 7 unavailable, 8 corrupt, 9 no such image";

const PEEK_EXAMPLES: &str = "\
Examples:
  layerslayer peek nginx:alpine                     layers and configuration; reads no layer
  layerslayer peek nginx:alpine --all               what every layer holds, base first
  layerslayer peek nginx:alpine --layer 1           one layer
  layerslayer peek nginx:alpine --rootfs etc        what a container sees of /etc
  layerslayer peek nginx:alpine --all '**/*.conf' --json

Listings look like `tar -tv`, with times in UTC. Two types of entry are a layer's own: `w` is a whiteout \
(removes the path in lower layers) and `o` an opaque mark (hides all that lower layers hold in the \
directory). Unprintable bytes of names are escaped.

A GLOB is matched against whole paths: `*` and `?` do not cross `/`, `**` does. If its last part has no \
wildcard, it also selects everything below.";

const CACHE_NOTES: &str = "\
The cache lies in $LAYERSLAYER_CACHE_DIR, else in layerslayer below $XDG_CACHE_HOME or ~/.cache. It holds at \
most $LAYERSLAYER_CACHE_SIZE [default: 2G]; beyond that, what was not used for longest goes first. \
`--no-cache` of the other commands neither reads nor writes it.";

const TOC_NOTES: &str = "\
Tables of layers can be shared: $LAYERSLAYER_TOC_STORE says where (s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, \
az://CONTAINER/PREFIX, file:///DIRECTORY; in builds with the feature object-store), $LAYERSLAYER_TOC_KEY lists \
files of keys, colons between them. Tables are believed if one of these keys vouches for them; with a private \
key, those made here are signed and shared.";

const TOC_BUILD_NOTES: &str = "\
Prints a line a layer, base first: digest, entries, size of the table, and whether it was made now or kept from \
before. Every layer that is read is verified.";

const TOC_PUSH_NOTES: &str = "\
Makes the tables that are not there yet, as `toc build` does, and signs them with the private key that \
$LAYERSLAYER_TOC_KEY names. Whoever has the public key in $LAYERSLAYER_TOC_KEY finds and believes them. Prints the \
digest of the artifact.";

const CARVE_EXAMPLES: &str = "\
Examples:
  layerslayer carve ubuntu:24.04 /etc/passwd                 to stdout
  layerslayer carve ubuntu:24.04 /etc/passwd -o passwd       to a file
  layerslayer carve ubuntu:24.04 /etc/apt /etc/hosts -o out/ to out/etc/apt/… and out/etc/hosts
  layerslayer carve ubuntu:24.04 --glob 'etc/*.conf' --tar | tar -tv
  layerslayer carve ubuntu:24.04 /bin/sh --explain > sh

Links are followed inside the image as a container would; a deleted file is an error (exit 4).";

/// Most layers that can be read at the same time.
const MOST_PARALLEL_LAYERS: i64 = 16;

/// What the program is called for.
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

/// Make tables of layers ahead of questions, and the keys that vouch for shared ones
#[derive(Args, Debug)]
#[command(arg_required_else_help = true, max_term_width = 100, after_help = TOC_NOTES)]
pub(crate) struct TocArguments {
    #[command(subcommand)]
    pub(crate) action: TocAction,
}

/// What to do with tables of layers.
#[derive(Debug, Subcommand)]
pub(crate) enum TocAction {
    Build(TocBuildArguments),
    /// Make a key: the private one goes to a new file, the public one to stdout
    Keygen {
        /// Write the private key to FILE, which must not be there yet
        #[arg(short, long, value_name = "FILE", default_value = "layerslayer-toc.pem")]
        output: PathBuf,
    },
    Push(TocPushArguments),
}

/// Store the signed tables of an image's layers beside it in its registry, for others to find
#[derive(Args, Debug)]
#[command(arg_required_else_help = true, after_help = TOC_PUSH_NOTES)]
pub(crate) struct TocPushArguments {
    /// NAME[:TAG][@DIGEST]
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Read every layer of an image once and keep its table of contents: later questions cost one request
#[derive(Args, Debug)]
#[command(arg_required_else_help = true, after_help = TOC_BUILD_NOTES)]
pub(crate) struct TocBuildArguments {
    /// NAME[:TAG][@DIGEST], oci:DIR[:TAG|@DIGEST] or oci-archive:FILE[:TAG]
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// List or shrink what is kept on disk between runs
#[derive(Args, Debug)]
#[command(arg_required_else_help = true, max_term_width = 100, after_help = CACHE_NOTES)]
pub(crate) struct CacheArguments {
    #[command(subcommand)]
    pub(crate) action: CacheAction,
}

/// What to do with the cache.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheAction {
    /// Remove everything
    Clear,
    /// Remove what was not used for longest, and what killed runs left behind
    Gc {
        /// Leave at most so much: bytes, or a number followed by K, M or G [default: the size limit]
        #[arg(long, value_name = "BYTES", value_parser = size)]
        size: Option<u64>,
    },
    /// List the tables of layers: digest of the layer, size, entries, last use
    Ls {
        /// Print JSON Lines
        #[arg(long)]
        json: bool,
    },
    /// Print the directory
    Path,
}

/// What to do with an image.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Carve(CarveArguments),
    Peek(PeekArguments),
    /// `toc build`, which `toc` has.
    #[command(skip)]
    TocBuild(TocBuildArguments),
    /// `toc push`, which `toc` has.
    #[command(skip)]
    TocPush(TocPushArguments),
}

impl Command {
    /// The flags that all commands share.
    pub(crate) fn common(&self) -> &Common {
        match self {
            Self::Carve(arguments) => &arguments.common,
            Self::Peek(arguments) => &arguments.common,
            Self::TocBuild(arguments) => &arguments.common,
            Self::TocPush(arguments) => &arguments.common,
        }
    }

    /// Whether requests are to be told of.
    pub(crate) fn explains(&self) -> bool {
        matches!(self, Self::Carve(arguments) if arguments.explain)
    }

    /// The image as it was written.
    pub(crate) fn image(&self) -> &str {
        match self {
            Self::Carve(arguments) => &arguments.image,
            Self::Peek(arguments) => &arguments.image,
            Self::TocBuild(arguments) => &arguments.image,
            Self::TocPush(arguments) => &arguments.image,
        }
    }

    /// The subcommand's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Carve(_) => "carve",
            Self::Peek(_) => "peek",
            Self::TocBuild(_) => "toc build",
            Self::TocPush(_) => "toc push",
        }
    }
}

/// Print the content of a file, or bring out several files and directories
#[derive(Args, Debug)]
#[command(arg_required_else_help = true, max_term_width = 100, after_help = CARVE_EXAMPLES)]
pub(crate) struct CarveArguments {
    /// NAME[:TAG][@DIGEST], oci:DIR[:TAG|@DIGEST], oci-archive:FILE[:TAG] or docker-archive:FILE[:REF|@N]
    pub(crate) image: String,
    /// Paths in the image, literally
    #[arg(value_name = "PATH", required_unless_present = "globs")]
    pub(crate) paths: Vec<OsString>,
    /// Select by pattern instead of by path (`*` does not cross `/`, `**` does); repeatable
    #[arg(long = "glob", value_name = "PATTERN", conflicts_with = "paths")]
    pub(crate) globs: Vec<OsString>,
    /// Look in one layer only (0 = base, or a digest of at least 6 digits)
    #[arg(long, value_name = "N|DIGEST")]
    pub(crate) layer: Option<String>,
    /// Write to FILE, below DIR/ (ends in a slash or exists), or with `-` to stdout even if that is a terminal
    #[arg(short, long, value_name = "FILE|DIR/")]
    pub(crate) output: Option<PathBuf>,
    /// Write a tar archive, to stdout or to `-o FILE`
    #[arg(long)]
    pub(crate) tar: bool,
    /// Say on stderr which layers, links and whiteouts decided, and which requests it took
    #[arg(long)]
    pub(crate) explain: bool,
    /// Keep set-user-ID and set-group-ID bits, owners and extended attributes in what `-o` writes
    #[arg(long, requires = "output", conflicts_with = "tar")]
    pub(crate) same_permissions: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// List the layers and the configuration of an image, or the contents of its layers
#[derive(Args, Debug)]
#[command(arg_required_else_help = true, max_term_width = 100, after_help = PEEK_EXAMPLES)]
pub(crate) struct PeekArguments {
    /// NAME[:TAG][@DIGEST], oci:DIR[:TAG|@DIGEST], oci-archive:FILE[:TAG] or docker-archive:FILE[:REF|@N]
    pub(crate) image: String,
    /// Which entries to list, with --all, --layer or --rootfs
    #[arg(value_name = "GLOB")]
    pub(crate) globs: Vec<OsString>,
    /// List the contents of every layer, base first
    #[arg(long, conflicts_with_all = ["layers", "rootfs"])]
    pub(crate) all: bool,
    /// List the contents of one layer (0 = base, or a digest of at least 6 digits); repeatable
    #[arg(long = "layer", value_name = "N|DIGEST", conflicts_with = "rootfs")]
    pub(crate) layers: Vec<String>,
    /// List the merged view that a container sees, with the layer of each entry
    #[arg(long)]
    pub(crate) rootfs: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Flags of every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// Choose the image of this platform [default: linux on this machine's architecture]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// Print JSON Lines
    #[arg(long)]
    pub(crate) json: bool,
    /// Write what was done and what it cost to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Print only what has been proved; `--verify=blob` insists on the digest of whole blobs
    #[arg(
        long,
        value_name = "LEVEL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "any",
        hide_possible_values = true
    )]
    pub(crate) verify: Option<Verify>,
    /// Speak http to registries, not https
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// Trust the certificates in FILE too (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Log in under this name
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    pub(crate) username: Option<String>,
    /// Read the password from stdin
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
    /// Keep nothing on disk between runs
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Fetch no more than so much over the network: bytes, or a number followed by K, M or G
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) max_bytes: Option<u64>,
    /// Where all layers are read, read up to N at a time [default: by the number of cores]
    #[arg(long, value_name = "N", value_parser = value_parser!(u8).range(1..=MOST_PARALLEL_LAYERS))]
    pub(crate) parallel_layers: Option<u8>,
    /// Print which requests it would take and how many bytes, and read nothing of any layer
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print no progress, notes or warnings
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say at the end what it cost
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl Common {
    /// What must vouch for all that is printed.
    pub(crate) fn least(&self) -> Verification {
        match self.verify {
            None => Verification::None,
            Some(Verify::Any) => Verification::Chunk,
            Some(Verify::Blob) => Verification::Blob,
        }
    }
}

/// How much proof is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Verify {
    /// Whatever is chained to the manifest's digest.
    #[value(hide = true)]
    Any,
    /// The digest of every blob, read whole.
    Blob,
}

/// Parses the arguments, the program's name first. Invoked as `peek` or `carve`, the program is that subcommand.
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
    layerslayer::parse_size(text).ok_or("not a size: bytes, or a number followed by K, M or G")
}

fn alone<A: Args>(name: &'static str) -> clap::Command {
    A::augment_args(clap::Command::new(name).version(env!("CARGO_PKG_VERSION")))
}

#[cfg(test)]
mod tests;
