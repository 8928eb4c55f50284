//! `login`: ask for the credential, verify it, store it.

use std::{io, sync::Arc};

use layerslayer::{Client, Credential, CredentialKind, CredentialStore, Login, StoreKind};

use super::{Context, check_username, failure, password, prompt::Terminal, take};
use crate::cli::{
    args::account::LoginArguments,
    exit::{Exit, Failure},
};

/// The default server for `--device`.
const GITHUB: &str = "https://github.com";

/// The registry that accepts GitHub's tokens.
const GITHUB_REGISTRY: &str = "ghcr.io";

/// What is known before any server is contacted.
pub(super) struct Prepared {
    store: Arc<dyn CredentialStore>,
    /// `None` with `--device`.
    credential: Option<Credential>,
}

/// Chooses the store and asks for what the command line does not provide.
pub(super) fn prepare(arguments: &LoginArguments, context: &Context<'_>) -> Result<Prepared, Failure> {
    check_store(arguments)?;
    if arguments.device {
        check_device(arguments)?;
    }
    let is_given = arguments.device || (arguments.username.is_some() && arguments.password_stdin);
    let asks = !is_given;
    let terminal = asks.then(Terminal::open).flatten();
    if asks && terminal.is_none() {
        return Err(Failure::usage(
            "there is no terminal for the prompts: use --username and --password-stdin",
        ));
    }
    arguments.username.as_deref().map_or(Ok(()), check_username)?;
    // The store is checked first, so that no password is typed or sent that cannot be stored.
    let store: Arc<dyn CredentialStore> = match arguments.store {
        Some(kind) => {
            let store = context.credentials.store_for(&arguments.registry, kind).map_err(failure)?;
            store.check(&arguments.registry).map_err(failure)?;
            store.into()
        }
        None => context.store(None)?,
    };
    let credential = match arguments.device {
        true => None,
        false => Some(ask(arguments, terminal.as_ref())?),
    };
    Ok(Prepared { store, credential })
}

/// Asks for the user name and password that the command line does not provide.
fn ask(arguments: &LoginArguments, terminal: Option<&Terminal>) -> Result<Credential, Failure> {
    let username = match (&arguments.username, terminal) {
        (Some(username), _) => username.clone(),
        (None, Some(terminal)) => terminal.visible(&format!("User name for {}: ", arguments.registry))?,
        (None, None) => String::new(),
    };
    if username.is_empty() {
        return Err(Failure::usage("the user name is empty"));
    }
    check_username(&username)?;
    let password = match terminal {
        Some(terminal) if !arguments.password_stdin => terminal.hidden("Password or token: ")?,
        _ => password::read(io::stdin().lock())?,
    };
    Ok(Credential::basic(username, take(password)))
}

/// Logs in.
pub(super) async fn run(
    arguments: &LoginArguments,
    Prepared { store, credential }: Prepared,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let registry = &arguments.registry;
    let client = context.client()?;
    let credential = match credential {
        Some(credential) => credential,
        None => sign_in(arguments, &client, context).await?,
    };
    let login = client.log_in(registry, &credential).await.map_err(|error| {
        let failure = Failure::from(error);
        if failure.exit == Exit::Unauthorized { failure.advise("nothing was stored") } else { failure }
    })?;
    if !login.is_verified {
        let warning =
            format!("{registry} accepts anonymous requests, so the credential could not be verified");
        context.console.warning(&warning);
    }
    let credential = chosen(arguments, login);
    tokio::task::block_in_place(|| save(arguments, &credential, store.as_ref(), context))
}

/// The credential to store.
fn chosen(arguments: &LoginArguments, login: Login) -> Credential {
    if arguments.pin_realm { login.pinned() } else { login.credential }
}

/// Stores it and removes older credentials for the registry.
fn save(
    arguments: &LoginArguments,
    credential: &Credential,
    store: &dyn CredentialStore,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let registry = &arguments.registry;
    for remaining in context.credentials.save(store, registry, credential).map_err(failure)? {
        context.console.warning(&remaining.to_string());
    }
    let place = store.place();
    let candidates = context.credentials.candidates(registry);
    let mut usable = candidates.iter().filter(|candidate| candidate.credential.is_some());
    let first = usable.clone().next();
    // Docker's configuration may name a helper that has it now.
    let saved = usable.find(|candidate| candidate.place.contains(&place));
    let shown = saved.map_or(&place, |saved| &saved.place);
    let who = match credential.username() {
        "" => String::new(),
        user => format!(" as {user}"),
    };
    let what = match credential.kind() {
        CredentialKind::IdentityToken => {
            format!("the identity token is in {shown}, the password is not stored")
        }
        _ => format!("the registry issues no identity token, so the password itself is in {shown}"),
    };
    context.console.note(&format!("logged in to {registry}{who}; {what}"));
    let is_plain_text = match arguments.store {
        Some(StoreKind::Plaintext) => true,
        // Otherwise a helper has it.
        Some(kind @ StoreKind::DockerConfig) => {
            *shown == context.credentials.store(kind).map_err(failure)?.place()
        }
        _ => false,
    };
    if is_plain_text {
        context.console.warning(&format!("{place} stores it in plain text"));
    }
    match (first, saved) {
        (Some(first), Some(_)) if first.place != *shown => {
            context.console.warning(&format!("{} takes precedence over it", first.place));
        }
        (_, None) => context.console.warning(&format!("{place} is not used in this environment")),
        _ => {}
    }
    Ok(())
}

/// Checks whether docker's configuration can hold the credential.
fn check_store(arguments: &LoginArguments) -> Result<(), Failure> {
    if arguments.store != Some(StoreKind::DockerConfig) {
        return Ok(());
    }
    let problem = match arguments.registry.as_str() == arguments.registry.host() {
        _ if arguments.pin_realm => "docker's configuration cannot store a pinned token server (--pin-realm)",
        true => return Ok(()),
        false => "docker stores one credential for each registry, and none for a path below it",
    };
    Err(Failure::usage(format!("{problem}; choose another store")))
}

/// Checks that the command line has everything for signing in with a device code.
fn check_device(arguments: &LoginArguments) -> Result<(), Failure> {
    let registry = &arguments.registry;
    if registry.as_str() != GITHUB_REGISTRY && arguments.device_server.is_none() {
        return Err(Failure::usage(format!(
            "--device signs in at GitHub for {GITHUB_REGISTRY}; for {registry} use --device-server URL"
        )));
    }
    if arguments.client_id.as_deref().unwrap_or_default().is_empty() {
        return Err(Failure::usage(
            "--device needs the client ID of an OAuth application: use --client-id or set LAYERSLAYER_GITHUB_CLIENT_ID",
        ));
    }
    Ok(())
}

/// Signs in with a device code.
async fn sign_in(
    arguments: &LoginArguments,
    client: &Client,
    context: &Context<'_>,
) -> Result<Credential, Failure> {
    let client_id = arguments.client_id.as_deref().unwrap_or_default();
    let server = arguments.device_server.as_deref().unwrap_or(GITHUB);
    let sign_in = client.device_sign_in(server, client_id).await?;
    context.console.error(&format!("type {} at {}", sign_in.user_code(), sign_in.verification_uri()));
    let credential = sign_in.wait().await?;
    let username = match (&arguments.username, credential.username()) {
        (Some(given), _) => given,
        (None, "") => {
            return Err(Failure::usage("the server does not report the user's name: use --username"));
        }
        (None, reported) => reported,
    };
    check_username(username)?;
    Ok(Credential::basic(username, credential.expose_secret()))
}
