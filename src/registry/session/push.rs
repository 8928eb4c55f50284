//! Pushing to a repository, and finding the artifacts that refer to an image (distribution specification 1.1, "Push", "Referrers").

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Session, Task};
use crate::{
    limits,
    oci::digest::Digest,
    progress::RequestTarget,
    registry::{
        error::{Error, Kind},
        http::{Method, StatusCode, Url, header, response::Response},
        redirect,
        retry::Retry,
    },
};

const BLOB_TYPE: &str = "application/octet-stream";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Sent if the registry itself lists the manifest as a referrer of its subject.
const SUBJECT_HEADER: &str = "oci-subject";

impl Session {
    /// Pushes a blob, unless the registry has it.
    pub(crate) async fn push_blob(&self, digest: &Digest, bytes: Bytes) -> Result<(), Error> {
        let mut task = Task {
            operation: format!("pushing the blob {digest} to {}", self.repository),
            path: format!("blobs/{digest}"),
            method: Method::Head,
            target: RequestTarget::Blob(digest.clone()),
            accept: None,
            digest: None,
            followups: 0,
        };
        if self.get(&task, None, &mut Retry::new(&self.http, &self.budget)).await?.status == StatusCode::OK {
            return Ok(());
        }
        task.path = "blobs/uploads/".to_owned();
        task.method = Method::Begin;
        let begun = self.stored(&task, StatusCode::ACCEPTED).await?;
        task.path = self.upload(&task, &begun, digest)?;
        task.method = Method::Put(bytes, BLOB_TYPE);
        self.stored(&task, StatusCode::CREATED).await?;
        Ok(())
    }

    /// Pushes a manifest under a tag or its digest. Returns whether the registry lists it as a referrer of its subject.
    pub(crate) async fn push_manifest(
        &self,
        reference: &str,
        media_type: &'static str,
        bytes: Bytes,
    ) -> Result<bool, Error> {
        let operation = format!("pushing the manifest {reference} to {}", self.repository);
        let task = Task::of_manifest(operation, Method::Put(bytes, media_type), reference);
        let response = self.stored(&task, StatusCode::CREATED).await?;
        Ok(response.headers.contains_key(SUBJECT_HEADER))
    }

    /// The image indexes of a manifest's referrers, one per page, as received: from the referrers API, else from the fallback tag.
    pub(crate) async fn referrers(&self, subject: &Digest) -> Result<Vec<Bytes>, Error> {
        if let Some(pages) = self.referrers_listed(subject).await? {
            return Ok(pages);
        }
        Ok(self.referrers_by_tag(subject).await?.into_iter().collect())
    }

    /// The pages of the referrers API, if the registry has it.
    async fn referrers_listed(&self, subject: &Digest) -> Result<Option<Vec<Bytes>>, Error> {
        let operation = format!("listing the referrers of {subject} in {}", self.repository);
        let mut task = Task::of_manifest(operation, Method::Get, &subject.to_string());
        let list = format!("referrers/{subject}");
        task.path.clone_from(&list);
        let (mut pages, mut asked, mut left) = (Vec::new(), BTreeSet::new(), limits::MANIFEST_BYTES);
        while asked.len() < limits::REFERRERS_PAGES && asked.insert(task.path.clone()) {
            let mut response = self.get(&task, None, &mut Retry::new(&self.http, &self.budget)).await?;
            match response.status {
                StatusCode::OK => {}
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => break,
                _ if pages.is_empty() => return Ok(None),
                _ => break,
            }
            let next = self.next_page(&response, &list);
            let whole = response.whole(left).await.map_err(|failure| failure.into_error(&task.operation))?;
            let Some(page) = whole else { break };
            left = left.saturating_sub(page.len() as u64);
            pages.push(page);
            let Some(next) = next else { break };
            task.path = next;
        }
        Ok(Some(pages))
    }

    /// The next page of a list (RFC 8288), if it belongs to the same list: the authorisation goes nowhere else.
    fn next_page(&self, response: &Response, list: &str) -> Option<String> {
        let links = response.headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
        let target =
            links.filter_map(next_target).next().filter(|target| target.len() <= limits::URL_BYTES)?;
        let target = response.url.join(target).ok()?;
        let below = self.below(response, &target)?;
        below.strip_prefix(list)?.starts_with('?').then_some(below)
    }

    /// The same from the fallback tag alone ("Referrers Tag Schema").
    pub(crate) async fn referrers_by_tag(&self, subject: &Digest) -> Result<Option<Bytes>, Error> {
        match self.manifest(&referrers_tag(subject), None).await {
            Ok(fetched) => Ok(Some(fetched.bytes)),
            Err(error) if error.kind() == Kind::ManifestUnknown => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the index of the fallback tag.
    pub(crate) async fn push_referrers_tag(&self, subject: &Digest, index: Bytes) -> Result<(), Error> {
        self.push_manifest(&referrers_tag(subject), INDEX_TYPE, index).await.map(drop)
    }

    async fn stored(&self, task: &Task<'_>, expected: StatusCode) -> Result<Response, Error> {
        let mut response = self.get(task, None, &mut Retry::new(&self.http, &self.budget)).await?;
        if response.status == expected {
            return Ok(response);
        }
        Err(self.unexpected(task, &mut response, Kind::Other).await)
    }

    /// Where to upload a blob, which must be below the repository: the authorisation goes nowhere else.
    fn upload(&self, task: &Task<'_>, begun: &Response, digest: &Digest) -> Result<String, Error> {
        let mut target = redirect::target(&begun.url, &begun.headers)
            .map_err(|detail| Error::other(&task.operation, format!("the registry answers with {detail}")))?;
        target.query_pairs_mut().append_pair("digest", &digest.to_string());
        self.below(begun, &target).ok_or_else(|| {
            let detail = format!("the registry wants the content at {}", redirect::shown(&target));
            Error::other(&task.operation, detail)
        })
    }

    /// The path and query of a URL in a response, relative to the repository, if it is below it.
    fn below(&self, response: &Response, target: &Url) -> Option<String> {
        let is_own = self.is_origin(&response.url) && self.is_origin(target);
        let base = format!("/v2/{}/", self.repository.name);
        let below = target.path().strip_prefix(&base).filter(|_| is_own)?;
        Some(match target.query() {
            Some(query) => format!("{below}?{query}"),
            None => below.to_owned(),
        })
    }
}

/// The target of the link to the next page, among the links of a header.
fn next_target(links: &str) -> Option<&str> {
    let is_next = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or_default();
        let mut relations = value.trim_matches(['"', ' ', ',']).split(' ');
        name.trim().eq_ignore_ascii_case("rel") && relations.any(|rel| rel.eq_ignore_ascii_case("next"))
    };
    // Commas separate links, and may occur in them.
    links.split('<').skip(1).find_map(|link| {
        let (target, parameters) = link.split_once('>')?;
        parameters.split(';').any(is_next).then_some(target)
    })
}

fn referrers_tag(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm().as_str(), subject.hex())
}
