//! `login`: ask, verify, store.

use std::{io, sync::Arc};

use layerslayer::{Client, Credential, CredentialKind, CredentialStore, Login, StoreKind};

use super::{Context, failure, password, prompt::Terminal};
use crate::cli::{
    args::account::LoginArguments,
    exit::{Exit, Failure},
};

/// Where GitHub signs people in.
const GITHUB: &str = "https://github.com";

/// The registry that GitHub's sign-in is for.
const GITHUB_REGISTRY: &str = "ghcr.io";

/// What is to be done, once everything is known that can be without asking a server.
pub(super) struct Prepared {
    store: Arc<dyn CredentialStore>,
    /// `None` with `--device`.
    credential: Option<Credential>,
}

/// Chooses the store, and asks for what the command line does not say.
pub(super) fn prepare(arguments: &LoginArguments, context: &Context<'_>) -> Result<Prepared, Failure> {
    check_store(arguments)?;
    if arguments.device {
        check_device(arguments)?;
    }
    let is_given = arguments.device || (arguments.username.is_some() && arguments.password_stdin);
    let asks = !is_given;
    let terminal = asks.then(Terminal::open).flatten();
    if asks && terminal.is_none() {
        return Err(Failure::usage("there is no terminal to ask at: give --username and --password-stdin"));
    }
    // Nobody shall type a password, or show it to anybody, that can be kept nowhere.
    let store: Arc<dyn CredentialStore> = match arguments.store {
        Some(kind) => {
            let store = context.sources.store_for(&arguments.registry, kind).map_err(failure)?;
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

/// Asks for user name and password, as far as the command line does not give them.
fn ask(arguments: &LoginArguments, terminal: Option<&Terminal>) -> Result<Credential, Failure> {
    let username = match (&arguments.username, terminal) {
        (Some(username), _) => username.clone(),
        (None, Some(terminal)) => terminal.visible(&format!("User name for {}: ", arguments.registry))?,
        (None, None) => String::new(),
    };
    if username.is_empty() {
        return Err(Failure::usage("no user name was given"));
    }
    let password = match terminal {
        Some(terminal) if !arguments.password_stdin => terminal.hidden("Password or token: ")?,
        _ => password::read(io::stdin().lock())?,
    };
    Ok(Credential::basic(username, password))
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
        let warning = format!("{registry} lets everybody in, so the credential could not be verified");
        context.console.warning(&warning);
    }
    let credential = chosen(arguments, login);
    tokio::task::block_in_place(|| keep(arguments, &credential, store.as_ref(), context))
}

/// What is to be stored.
fn chosen(arguments: &LoginArguments, login: Login) -> Credential {
    if arguments.pin_realm { login.pinned() } else { login.credential }
}

/// Stores it, and removes what would count before it or could be mistaken for it.
fn keep(
    arguments: &LoginArguments,
    credential: &Credential,
    store: &dyn CredentialStore,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let registry = &arguments.registry;
    for left in context.sources.keep(store, registry, credential).map_err(failure)? {
        context.console.warning(&left.to_string());
    }
    let place = store.place();
    let candidates = context.sources.candidates(registry);
    let mut usable = candidates.iter().filter(|candidate| candidate.credential.is_some());
    let first = usable.clone().next();
    // Docker's configuration may have given it to a helper.
    let kept = usable.find(|candidate| candidate.place.contains(&place));
    let shown = kept.map_or(&place, |kept| &kept.place);
    let who = match credential.username() {
        "" => String::new(),
        user => format!(" as {user}"),
    };
    let what = match credential.kind() {
        CredentialKind::IdentityToken => {
            format!("its identity token is in {shown}, the password is kept nowhere")
        }
        _ => format!("it issues no identity token, so the password itself is in {shown}"),
    };
    context.console.note(&format!("logged in to {registry}{who}; {what}"));
    let in_the_clear = match arguments.store {
        Some(StoreKind::Plaintext) => true,
        // Else a helper has it.
        Some(kind @ StoreKind::DockerConfig) => {
            *shown == context.sources.store(kind).map_err(failure)?.place()
        }
        _ => false,
    };
    if in_the_clear {
        context.console.warning(&format!("{place} holds it in the clear"));
    }
    match (first, kept) {
        (Some(first), Some(_)) if first.place != *shown => {
            context.console.warning(&format!("{} counts before it", first.place));
        }
        (_, None) => context.console.warning(&format!("{place} does not count as things are set here")),
        _ => {}
    }
    Ok(())
}

/// Whether the store can hold what it is to hold.
fn check_store(arguments: &LoginArguments) -> Result<(), Failure> {
    if arguments.store != Some(StoreKind::DockerConfig) {
        return Ok(());
    }
    let problem = match arguments.registry.as_str() == arguments.registry.host() {
        _ if arguments.pin_realm => "--pin-realm: docker's configuration has no place for it",
        true => return Ok(()),
        false => "docker keeps one credential for a registry, and none for a path below it",
    };
    Err(Failure::usage(format!("{problem}; choose another store")))
}

/// Whether the command line says all that signing in with a device code takes.
fn check_device(arguments: &LoginArguments) -> Result<(), Failure> {
    let registry = &arguments.registry;
    if registry.as_str() != GITHUB_REGISTRY && arguments.device_server.is_none() {
        return Err(Failure::usage(format!(
            "--device signs in at GitHub, for {GITHUB_REGISTRY}; for {registry} say --device-server URL"
        )));
    }
    if arguments.client_id.as_deref().unwrap_or_default().is_empty() {
        return Err(Failure::usage(
            "--device needs the client id of an OAuth application: give --client-id or \
             LAYERSLAYER_GITHUB_CLIENT_ID",
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
            return Err(Failure::usage("the server does not tell the user's name: give --username"));
        }
        (None, told) => told,
    };
    Ok(Credential::basic(username, credential.secret().clone()))
}
