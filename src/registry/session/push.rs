//! Storing in a repository, and finding what was stored beside an image (distribution specification 1.1, "Push", "Referrers").

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Session, Task};
use crate::{
    limits,
    oci::digest::Digest,
    progress::RequestTarget,
    registry::{
        error::{Error, Kind},
        http::{Method, StatusCode, Url, answer::Answer, header},
        redirect,
        retry::Retry,
    },
};

const BLOB_TYPE: &str = "application/octet-stream";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// The registry lists what refers to the manifest that it was given by itself.
const SUBJECT_HEADER: &str = "oci-subject";

impl Session {
    /// Stores a blob, unless it is there.
    pub(crate) async fn push_blob(&self, digest: &Digest, bytes: Bytes) -> Result<(), Error> {
        let mut task = Task {
            doing: format!("storing the blob {digest} in {}", self.repository),
            path: format!("blobs/{digest}"),
            method: Method::Head,
            target: RequestTarget::Blob(digest.clone()),
            accept: None,
            digest: None,
            leads_on: 0,
        };
        if self.get(&task, None, &mut Retry::new(&self.http)).await?.status == StatusCode::OK {
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

    /// Stores a manifest under a tag or its digest. Tells whether the registry lists it with what refers to its subject.
    pub(crate) async fn push_manifest(
        &self,
        reference: &str,
        media_type: &'static str,
        bytes: Bytes,
    ) -> Result<bool, Error> {
        let doing = format!("storing the manifest {reference} in {}", self.repository);
        let task = Task::of_manifest(doing, Method::Put(bytes, media_type), reference);
        let answer = self.stored(&task, StatusCode::CREATED).await?;
        Ok(answer.headers.contains_key(SUBJECT_HEADER))
    }

    /// The image indexes of what refers to a manifest, page after page, as they came: by the registry's list, else by the tag that stands
    /// in for it.
    pub(crate) async fn referrers(&self, subject: &Digest) -> Result<Vec<Bytes>, Error> {
        if let Some(pages) = self.referrers_listed(subject).await? {
            return Ok(pages);
        }
        Ok(self.referrers_by_tag(subject).await?.into_iter().collect())
    }

    /// The pages of the registry's list, if it has one.
    async fn referrers_listed(&self, subject: &Digest) -> Result<Option<Vec<Bytes>>, Error> {
        let doing = format!("asking what refers to {subject} in {}", self.repository);
        let mut task = Task::of_manifest(doing, Method::Get, &subject.to_string());
        let list = format!("referrers/{subject}");
        task.path.clone_from(&list);
        let (mut pages, mut asked, mut left) = (Vec::new(), BTreeSet::new(), limits::MANIFEST_BYTES);
        while asked.len() < limits::REFERRERS_PAGES && asked.insert(task.path.clone()) {
            let mut answer = self.get(&task, None, &mut Retry::new(&self.http)).await?;
            match answer.status {
                StatusCode::OK => {}
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => break,
                _ if pages.is_empty() => return Ok(None),
                _ => break,
            }
            let next = self.next_page(&answer, &list);
            let whole = answer.whole(left).await.map_err(|failure| failure.into_error(&task.doing))?;
            let Some(page) = whole else { break };
            left = left.saturating_sub(page.len() as u64);
            pages.push(page);
            let Some(next) = next else { break };
            task.path = next;
        }
        Ok(Some(pages))
    }

    /// Where a list goes on (RFC 8288), if that is a part of the same list: what we are authorised for goes nowhere else.
    fn next_page(&self, answer: &Answer, list: &str) -> Option<String> {
        let links = answer.headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
        let target =
            links.filter_map(next_target).next().filter(|target| target.len() <= limits::URL_BYTES)?;
        let target = answer.url.join(target).ok()?;
        let below = self.below(answer, &target)?;
        below.strip_prefix(list)?.starts_with('?').then_some(below)
    }

    /// The same by the tag alone ("Referrers Tag Schema").
    pub(crate) async fn referrers_by_tag(&self, subject: &Digest) -> Result<Option<Bytes>, Error> {
        match self.manifest(&referrers_tag(subject), None).await {
            Ok(fetched) => Ok(Some(fetched.bytes)),
            Err(error) if error.kind() == Kind::ManifestUnknown => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts this index in place of the one that the tag stands for.
    pub(crate) async fn push_referrers_tag(&self, subject: &Digest, index: Bytes) -> Result<(), Error> {
        self.push_manifest(&referrers_tag(subject), INDEX_TYPE, index).await.map(drop)
    }

    async fn stored(&self, task: &Task<'_>, expected: StatusCode) -> Result<Answer, Error> {
        let mut answer = self.get(task, None, &mut Retry::new(&self.http)).await?;
        if answer.status == expected {
            return Ok(answer);
        }
        Err(self.unexpected(task, &mut answer, Kind::Other).await)
    }

    /// Where the content of a blob goes, below the repository: what we are authorised for goes nowhere else.
    fn upload(&self, task: &Task<'_>, begun: &Answer, digest: &Digest) -> Result<String, Error> {
        let mut target = redirect::target(&begun.url, &begun.headers)
            .map_err(|problem| Error::other(&task.doing, format!("the registry answers with {problem}")))?;
        target.query_pairs_mut().append_pair("digest", &digest.to_string());
        self.below(begun, &target).ok_or_else(|| {
            let problem = format!("the registry wants the content at {}", redirect::shown(&target));
            Error::other(&task.doing, problem)
        })
    }

    /// The path and query below the repository of what an answer of the registry names there.
    fn below(&self, answer: &Answer, target: &Url) -> Option<String> {
        let is_own = self.is_origin(&answer.url) && self.is_origin(target);
        let base = format!("/v2/{}/", self.repository.name);
        let below = target.path().strip_prefix(&base).filter(|_| is_own)?;
        Some(match target.query() {
            Some(query) => format!("{below}?{query}"),
            None => below.to_owned(),
        })
    }
}

/// The target of the link to what comes next, among those of a header.
fn next_target(links: &str) -> Option<&str> {
    let is_next = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or_default();
        let mut relations = value.trim_matches(['"', ' ', ',']).split(' ');
        name.trim().eq_ignore_ascii_case("rel") && relations.any(|rel| rel.eq_ignore_ascii_case("next"))
    };
    // Commas part links, and may be in them.
    links.split('<').skip(1).find_map(|link| {
        let (target, parameters) = link.split_once('>')?;
        parameters.split(';').any(is_next).then_some(target)
    })
}

fn referrers_tag(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm().as_str(), subject.hex())
}
