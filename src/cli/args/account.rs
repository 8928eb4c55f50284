//! Arguments of `login`, `logout` and `auth`.

use std::{ffi::OsStr, path::PathBuf};

use clap::{ArgAction, Args, Subcommand, builder::TypedValueParser, error::ErrorKind};
use layerslayer::{RegistryKey, StoreKind};

const LOGIN_EXAMPLES: &str = "\
Examples:
  layerslayer login ghcr.io                                     asks for user name and password
  layerslayer login registry.example:5000 --username me --password-stdin < token
  layerslayer login ghcr.io --device --client-id ID             signs in with a browser

The credential is verified with the registry before it is stored. If the registry issues an identity token, the \
token is stored and the password is not. Without --store the credential goes to the keyring, else to the encrypted \
file if there is a passphrase for it: from $LAYERSLAYER_PASSPHRASE, from the file descriptor \
$LAYERSLAYER_PASSPHRASE_FD, or from a prompt.";

const STATUS_EXAMPLES: &str = "\
Examples:
  layerslayer auth status                all registries with a credential that can be listed
  layerslayer auth status ghcr.io        the source of its credential, and the ones it shadows
  layerslayer auth status --check        whether registries still accept them

Secrets are never shown. The order of precedence is: $LAYERSLAYER_AUTH and $LAYERSLAYER_AUTH_<HOST>, \
$DOCKER_AUTH_CONFIG, keyring, encrypted file, plain file, then $REGISTRY_AUTH_FILE or the files of podman \
and docker.";

/// Parses a registry. Unlike clap's own parsers it does not repeat the value, which may contain a password.
#[derive(Clone)]
struct RegistryParser;

impl TypedValueParser for RegistryParser {
    type Value = RegistryKey;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<RegistryKey, clap::Error> {
        let parsed = value.to_string_lossy().parse();
        parsed.map_err(|error| {
            clap::Error::raw(ErrorKind::ValueValidation, format!("{error}\n")).with_cmd(command)
        })
    }
}

/// Log in to a registry and store the credential
#[derive(Args, Debug)]
#[command(max_term_width = 100, after_help = LOGIN_EXAMPLES)]
pub(crate) struct LoginArguments {
    /// Host of the registry, with an optional port
    #[arg(default_value = "docker.io", value_parser = RegistryParser)]
    pub(crate) registry: RegistryKey,
    /// The user name; asked for if not given
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Read the password from stdin instead of asking for it
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
    /// Where to store the credential [keyring, file (encrypted), plaintext, docker-config]
    #[arg(long, value_name = "STORE", hide_possible_values = true)]
    pub(crate) store: Option<StoreKind>,
    /// Never send the credential to a token server other than the one that accepts it now
    #[arg(long)]
    pub(crate) pin_realm: bool,
    /// Sign in at GitHub with a code that you type into a browser
    #[arg(long, conflicts_with = "password_stdin")]
    pub(crate) device: bool,
    /// Client ID of the OAuth application for --device
    #[arg(long, value_name = "ID", env = "LAYERSLAYER_GITHUB_CLIENT_ID", hide_env_values = true)]
    pub(crate) client_id: Option<String>,
    /// Server for --device, such as GitHub Enterprise
    #[arg(long, value_name = "URL", requires = "device")]
    pub(crate) device_server: Option<String>,
    #[command(flatten)]
    pub(crate) common: AccountCommon,
}

/// Remove the credential for a registry
#[derive(Args, Debug)]
#[command(max_term_width = 100)]
pub(crate) struct LogoutArguments {
    /// Host of the registry, with an optional port
    #[arg(default_value = "docker.io", conflicts_with = "all", value_parser = RegistryParser)]
    pub(crate) registry: RegistryKey,
    /// Remove the credentials for all registries
    #[arg(long)]
    pub(crate) all: bool,
    /// Remove it from this store only [default: keyring, file and plaintext, but not docker-config]
    #[arg(long, value_name = "STORE", hide_possible_values = true)]
    pub(crate) store: Option<StoreKind>,
    #[command(flatten)]
    pub(crate) common: AccountCommon,
}

/// List credentials and move them to a secure store
#[derive(Args, Debug)]
#[command(arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct AuthArguments {
    #[command(subcommand)]
    pub(crate) action: AuthAction,
}

/// The commands about credentials.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthAction {
    Login(LoginArguments),
    Logout(LogoutArguments),
    Migrate(MigrateArguments),
    Status(StatusArguments),
}

/// Move plain-text credentials of docker or podman to a secure store
#[derive(Args, Debug)]
#[command(max_term_width = 100)]
pub(crate) struct MigrateArguments {
    /// Which files to migrate [docker-config, containers; default: both]
    #[arg(long, value_name = "SOURCE", value_parser = ["docker-config", "containers"], hide_possible_values = true)]
    pub(crate) from: Option<String>,
    /// Where to move them [keyring, file (encrypted); default: the keyring, else the encrypted file]
    #[arg(long, value_name = "STORE", hide_possible_values = true)]
    pub(crate) store: Option<StoreKind>,
    /// Show what would be done, without changing anything
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Leave a copy of each file next to it, with its secrets in plain text
    #[arg(long)]
    pub(crate) backup: bool,
    #[command(flatten)]
    pub(crate) common: AccountCommon,
}

/// List credentials and show which ones are used, without their secrets
#[derive(Args, Debug)]
#[command(max_term_width = 100, after_help = STATUS_EXAMPLES)]
pub(crate) struct StatusArguments {
    /// Host of the registry [default: all]
    #[arg(value_parser = RegistryParser)]
    pub(crate) registry: Option<RegistryKey>,
    /// Check whether the registries accept them
    #[arg(long)]
    pub(crate) check: bool,
    /// Print JSON Lines
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) common: AccountCommon,
}

/// Options of all commands about credentials.
#[derive(Args, Debug)]
#[command(next_help_heading = "Common options")]
pub(crate) struct AccountCommon {
    /// Contact registries over plain HTTP instead of HTTPS
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// Allow token servers at HOST although the registry is less private
    #[arg(long, value_name = "HOST")]
    pub(crate) allow_host: Vec<String>,
    /// Also trust the certificates in FILE (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Print no notes or warnings
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print the elapsed time when done
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl AuthAction {
    /// The options that all of them share.
    pub(crate) fn common(&self) -> &AccountCommon {
        match self {
            Self::Login(arguments) => &arguments.common,
            Self::Logout(arguments) => &arguments.common,
            Self::Migrate(arguments) => &arguments.common,
            Self::Status(arguments) => &arguments.common,
        }
    }
}
