//! What can be said about credentials.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};
use layerslayer::{RegistryKey, StoreKind};

const LOGIN_EXAMPLES: &str = "\
Examples:
  layerslayer login ghcr.io                                     asks for user name and password
  layerslayer login registry.example:5000 --username me --password-stdin < token
  layerslayer login ghcr.io --device --client-id ID             signs in with a browser

The registry is asked before anything is stored. Where it issues an identity token, that is stored and the \
password is not. Without --store the keyring is taken, else the encrypted file, if there is a passphrase for it: \
from $LAYERSLAYER_PASSPHRASE, from the file descriptor $LAYERSLAYER_PASSPHRASE_FD, or typed.";

const STATUS_EXAMPLES: &str = "\
Examples:
  layerslayer auth status                all registries with a credential that can be listed
  layerslayer auth status ghcr.io        where its credential comes from, and what that shadows
  layerslayer auth status --check        whether registries still accept them

No secret is ever shown. Credentials count in this order: $LAYERSLAYER_AUTH and $LAYERSLAYER_AUTH_<HOST>, \
$DOCKER_AUTH_CONFIG, keyring, encrypted file, plain file, then $REGISTRY_AUTH_FILE or the files of podman \
and docker.";

/// Log in to a registry, and keep the credential
#[derive(Args, Debug)]
#[command(max_term_width = 100, after_help = LOGIN_EXAMPLES)]
pub(crate) struct LoginArguments {
    /// Host of the registry, with its port if need be
    #[arg(default_value = "docker.io")]
    pub(crate) registry: RegistryKey,
    /// The user name, instead of being asked for it
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Read the password from stdin, instead of being asked for it
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
    /// Keep the credential there [keyring, file (encrypted), plaintext, docker-config]
    #[arg(long, value_name = "STORE", hide_possible_values = true)]
    pub(crate) store: Option<StoreKind>,
    /// Show the credential to no other token server than the one that vouches for it now
    #[arg(long)]
    pub(crate) pin_realm: bool,
    /// Sign in at GitHub with a code that is typed into a browser
    #[arg(long, conflicts_with = "password_stdin")]
    pub(crate) device: bool,
    /// The OAuth application that --device signs in as
    #[arg(long, value_name = "ID", env = "LAYERSLAYER_GITHUB_CLIENT_ID", hide_env_values = true)]
    pub(crate) client_id: Option<String>,
    /// The server that --device signs in at, such as that of GitHub Enterprise
    #[arg(long, value_name = "URL", requires = "device")]
    pub(crate) device_server: Option<String>,
    #[command(flatten)]
    pub(crate) common: AccountCommon,
}

/// Forget the credential of a registry
#[derive(Args, Debug)]
#[command(max_term_width = 100)]
pub(crate) struct LogoutArguments {
    /// Host of the registry, with its port if need be
    #[arg(default_value = "docker.io", conflicts_with = "all")]
    pub(crate) registry: RegistryKey,
    /// Forget those of all registries
    #[arg(long)]
    pub(crate) all: bool,
    /// Forget it there alone [default: keyring, file and plaintext, but not docker-config]
    #[arg(long, value_name = "STORE", hide_possible_values = true)]
    pub(crate) store: Option<StoreKind>,
    #[command(flatten)]
    pub(crate) common: AccountCommon,
}

/// Log in and out, and see which credentials there are
#[derive(Args, Debug)]
#[command(arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct AuthArguments {
    #[command(subcommand)]
    pub(crate) action: AuthAction,
}

/// What to do about credentials.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthAction {
    Login(LoginArguments),
    Logout(LogoutArguments),
    Migrate(MigrateArguments),
    Status(StatusArguments),
}

/// Move credentials that docker or podman keep in the clear into a secure store
#[derive(Args, Debug)]
#[command(max_term_width = 100)]
pub(crate) struct MigrateArguments {
    /// Whose files to empty [docker-config, containers; default: both]
    #[arg(long, value_name = "SOURCE", value_parser = ["docker-config", "containers"], hide_possible_values = true)]
    pub(crate) from: Option<String>,
    /// Where to move them [keyring, file (encrypted); default: the keyring, else the encrypted file]
    #[arg(long, value_name = "STORE", hide_possible_values = true)]
    pub(crate) store: Option<StoreKind>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Leave a copy of each file beside it, secrets in the clear
    #[arg(long)]
    pub(crate) backup: bool,
    #[command(flatten)]
    pub(crate) common: AccountCommon,
}

/// Show which credentials there are and which of them count, without their secrets
#[derive(Args, Debug)]
#[command(max_term_width = 100, after_help = STATUS_EXAMPLES)]
pub(crate) struct StatusArguments {
    /// Host of the registry [default: all]
    pub(crate) registry: Option<RegistryKey>,
    /// Ask the registries whether they accept them
    #[arg(long)]
    pub(crate) check: bool,
    /// Print JSON Lines
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) common: AccountCommon,
}

/// Flags of every command about credentials.
#[derive(Args, Debug)]
#[command(next_help_heading = "Common options")]
pub(crate) struct AccountCommon {
    /// Speak http to registries, not https
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// Trust the certificates in FILE too (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Print no notes or warnings
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say at the end what it cost
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl AuthAction {
    /// The flags that all of them share.
    pub(crate) fn common(&self) -> &AccountCommon {
        match self {
            Self::Login(arguments) => &arguments.common,
            Self::Logout(arguments) => &arguments.common,
            Self::Migrate(arguments) => &arguments.common,
            Self::Status(arguments) => &arguments.common,
        }
    }
}
