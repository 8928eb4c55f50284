//! A token server according to the registry's token specification: GET with Basic credentials, POST
//! with a form; tokens are JWTs signed with RS256, the certificate in `x5c`.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, BufRead, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{rand::SystemRandom, signature};
use serde_json::{Value, json};

use super::{
    certificate::Certificate,
    http::{Head, Listener, form_pairs},
};

const SERVICE: &str = "layerslayer test registry";
const ISSUER: &str = "layerslayer test issuer";

/// Longest form accepted by POST, in bytes.
const FORM_BYTES: u64 = 64 << 10;

/// What a [`TokenServer`] allows. Users may do everything everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    users: HashMap<String, String>,
    identity_tokens: HashMap<String, String>,
    public: Vec<String>,
    lifetime: Duration,
    back_dated: Duration,
    issues: bool,
    rotates: bool,
}

impl Policy {
    /// No tokens for anyone; they would last five minutes.
    pub(crate) fn closed() -> Self {
        Self {
            users: HashMap::new(),
            identity_tokens: HashMap::new(),
            public: Vec::new(),
            lifetime: Duration::from_secs(300),
            back_dated: Duration::ZERO,
            issues: false,
            rotates: false,
        }
    }

    /// Anyone may pull everything.
    pub(crate) fn public() -> Self {
        Self::closed().public_under("")
    }

    /// Anyone may pull repositories whose names begin with `prefix`.
    pub(crate) fn public_under(mut self, prefix: &str) -> Self {
        self.public.push(prefix.to_owned());
        self
    }

    /// A user with a password.
    pub(crate) fn user(mut self, name: &str, password: &str) -> Self {
        self.users.insert(name.to_owned(), password.to_owned());
        self
    }

    /// An identity (refresh) token that belongs to a user.
    pub(crate) fn identity_token(mut self, token: &str, user: &str) -> Self {
        self.identity_tokens.insert(token.to_owned(), user.to_owned());
        self
    }

    /// Logging in with `offline_token=true` returns an identity token.
    pub(crate) fn issuing_identity_tokens(mut self) -> Self {
        self.issues = true;
        self
    }

    /// An identity token works once: each token response contains the next one.
    pub(crate) fn rotating_identity_tokens(mut self) -> Self {
        self.rotates = true;
        self
    }

    /// How long tokens last, also what `expires_in` says.
    pub(crate) fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Backdates tokens by `back`: with more than the lifetime and the registry's 60 s of leeway
    /// they are expired on arrival.
    pub(crate) fn back_dated(mut self, back: Duration) -> Self {
        self.back_dated = back;
        self
    }
}

/// One request for a token, without secrets, which tests do not compare.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct TokenRequest {
    /// `GET` or `POST`.
    pub(crate) method: String,
    /// Every requested scope.
    pub(crate) scopes: Vec<String>,
    /// All other parameters, except `password` and `refresh_token`.
    pub(crate) parameters: BTreeMap<String, String>,
    /// The user in the credentials, right or wrong.
    pub(crate) user: Option<String>,
    /// The status of the response.
    pub(crate) status: u16,
}

/// A running token server, stopped on drop.
#[derive(Debug)]
pub(crate) struct TokenServer {
    listener: Listener,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    policy: Policy,
    certificate: Certificate,
    requests: Vec<TokenRequest>,
}

impl TokenServer {
    /// Starts one on a free loopback port, with a signing key of its own.
    pub(crate) fn start(policy: Policy) -> Self {
        let state = State { policy, certificate: Certificate::new(), requests: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let listener = Listener::start(move |connection| {
            // A client may disconnect early.
            let _ = answer(&connection, &shared);
        });
        Self { listener, state }
    }

    /// The URL for a challenge.
    pub(crate) fn realm(&self) -> String {
        format!("http://{}/token", self.listener.host())
    }

    /// The audience of its tokens.
    pub(crate) fn service(&self) -> &'static str {
        SERVICE
    }

    /// The issuer that its tokens name.
    pub(crate) fn issuer(&self) -> &'static str {
        ISSUER
    }

    /// The certificate of the key that signs its tokens, a PEM file; valid until the next
    /// [`Self::rotate_key`].
    pub(crate) fn certificate_path(&self) -> PathBuf {
        self.state.lock().unwrap().certificate.path()
    }

    /// Signs with a new key from now on.
    pub(crate) fn rotate_key(&self) {
        self.state.lock().unwrap().certificate = Certificate::new();
    }

    /// Blocks all responses until the value is dropped.
    pub(crate) fn hold(&self) -> impl Drop {
        self.state.lock().unwrap()
    }

    /// Follows another policy from now on.
    pub(crate) fn set_policy(&self, policy: Policy) {
        self.state.lock().unwrap().policy = policy;
    }

    /// Every request received.
    pub(crate) fn requests(&self) -> Vec<TokenRequest> {
        self.state.lock().unwrap().requests.clone()
    }
}

fn answer(connection: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let mut reader = BufReader::new(connection);
    let Some(head) = Head::read(&mut reader)? else { return Ok(()) };
    let (path, query) = head.word(1).split_once('?').unwrap_or((head.word(1), ""));
    let form = form(&head, &mut reader)?;
    let parameters = if head.word(0) == "POST" { form_pairs(&form) } else { form_pairs(query) };
    let (status, body) = if path == "/token" {
        respond(&head, parameters, &mut state.lock().unwrap())
    } else {
        (404, json!({ "details": "tokens are at /token" }))
    };
    let body = body.to_string();
    let mut writer = connection;
    write!(
        writer,
        "HTTP/1.1 {status} Whatever\r\nDate: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: \
         close\r\n\r\n{body}",
        httpdate::fmt_http_date(SystemTime::now()),
        body.len(),
    )
}

/// The body of a request; podman and skopeo send theirs in chunks.
fn form(head: &Head, reader: &mut impl BufRead) -> io::Result<String> {
    let mut form = String::new();
    if head.field("transfer-encoding").is_none() {
        let length = head.field("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
        reader.take(FORM_BYTES.min(length)).read_to_string(&mut form)?;
        return Ok(form);
    }
    loop {
        let mut line = String::new();
        reader.take(FORM_BYTES).read_line(&mut line)?;
        match u64::from_str_radix(line.trim(), 16) {
            Ok(length @ 1..=FORM_BYTES) => reader.take(length).read_to_string(&mut form)?,
            _ => return Ok(form),
        };
        reader.take(FORM_BYTES).read_line(&mut String::new())?;
    }
}

fn respond(head: &Head, parameters: Vec<(String, String)>, state: &mut State) -> (u16, Value) {
    let one = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let credentials = basic(head).or_else(|| Some((one("username")?, one("password")?)));
    let policy = &state.policy;
    let (user, right) = match (&credentials, one("refresh_token")) {
        (Some((user, password)), _) => (Some(user.clone()), policy.users.get(user) == Some(password)),
        (None, Some(token)) => {
            let user = policy.identity_tokens.get(&token).cloned();
            let known = user.is_some();
            (user, known)
        }
        (None, None) => (None, !policy.public.is_empty()),
    };
    let scopes: Vec<String> = parameters
        .iter()
        .filter(|(key, _)| key == "scope")
        .flat_map(|(_, value)| value.split(' '))
        .filter(|scope| !scope.is_empty())
        .map(str::to_owned)
        .collect();
    let (status, body) = if right {
        let access: Vec<Value> =
            scopes.iter().filter_map(|scope| granted(scope, user.as_deref(), policy)).collect();
        let mut body = issue(access, user.as_deref(), state);
        let old = one("refresh_token").filter(|_| state.policy.rotates);
        let is_new = state.policy.issues && one("offline_token").as_deref() == Some("true");
        if let Some(user) = user.as_ref().filter(|_| is_new || old.is_some()) {
            let next = format!("identity-{}-of-{user}", state.requests.len());
            old.map(|old| state.policy.identity_tokens.remove(&old));
            state.policy.identity_tokens.insert(next.clone(), user.clone());
            body["refresh_token"] = next.into();
        }
        (200, body)
    } else if one("refresh_token").is_some() {
        (400, json!({ "error": "invalid_grant" }))
    } else {
        (401, json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "authentication required" }] }))
    };
    state.requests.push(TokenRequest {
        method: head.word(0).to_owned(),
        scopes,
        parameters: parameters
            .into_iter()
            .filter(|(key, _)| !matches!(key.as_str(), "scope" | "password" | "refresh_token"))
            .collect(),
        user,
        status,
    });
    (status, body)
}

/// The permitted part of `repository:NAME:ACTIONS`; the name may contain a colon.
fn granted(scope: &str, user: Option<&str>, policy: &Policy) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let public = policy.public.iter().any(|prefix| name.starts_with(prefix));
    let allowed: Vec<&str> =
        actions.split(',').filter(|action| user.is_some() || (public && *action == "pull")).collect();
    (!allowed.is_empty()).then(|| json!({ "type": kind, "name": name, "actions": allowed }))
}

fn issue(access: Vec<Value>, user: Option<&str>, state: &State) -> Value {
    let issued = SystemTime::now() - state.policy.back_dated;
    let seconds = issued.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let lifetime = state.policy.lifetime.as_secs();
    let claims = json!({
        "iss": ISSUER,
        "sub": user.unwrap_or_default(),
        "aud": SERVICE,
        "exp": seconds + lifetime,
        "nbf": seconds,
        "iat": seconds,
        "jti": format!("token-{}", state.requests.len()),
        "access": access,
    });
    let token = sign(&claims, &state.certificate);
    json!({
        "token": token,
        "access_token": token,
        "expires_in": lifetime,
        "issued_at": jiff::Timestamp::try_from(issued).unwrap().to_string(),
    })
}

fn sign(claims: &Value, certificate: &Certificate) -> String {
    let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [certificate.base64()] });
    let [header, claims] = [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let message = format!("{header}.{claims}");
    let key = STANDARD.decode(certificate.key_base64()).unwrap();
    let key = signature::RsaKeyPair::from_pkcs8(&key).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn basic(head: &Head) -> Option<(String, String)> {
    let encoded = head.field("authorization")?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
