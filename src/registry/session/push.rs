//! Storing in a repository, and finding what was stored beside an image (distribution specification 1.1, "Push", "Referrers").

use bytes::Bytes;

use super::{Session, Task};
use crate::{
    limits,
    oci::digest::Digest,
    progress::RequestTarget,
    registry::{
        error::{Error, Kind},
        http::{Method, StatusCode, answer::Answer},
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
            leads_on: false,
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

    /// The image index of what refers to a manifest, as it came: by the registry's list, else by the tag that stands in for it.
    pub(crate) async fn referrers(&self, subject: &Digest) -> Result<Option<Bytes>, Error> {
        let doing = format!("asking what refers to {subject} in {}", self.repository);
        let mut task = Task::of_manifest(doing, Method::Get, &subject.to_string());
        task.path = format!("referrers/{subject}");
        let mut answer = self.get(&task, None, &mut Retry::new(&self.http)).await?;
        if answer.status == StatusCode::OK {
            let whole = answer.whole(limits::MANIFEST_BYTES).await;
            return whole.map_err(|failure| failure.into_error(&task.doing));
        }
        self.referrers_by_tag(subject).await
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
        let base = format!("/v2/{}/", self.repository.name);
        let below = target.path().strip_prefix(&base);
        let below = below.filter(|_| self.is_origin(&begun.url) && self.is_origin(&target));
        let Some(below) = below else {
            let problem = format!("the registry wants the content at {}", redirect::shown(&target));
            return Err(Error::other(&task.doing, problem));
        };
        Ok(format!("{below}?{}", target.query().unwrap_or_default()))
    }
}

fn referrers_tag(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm().as_str(), subject.hex())
}
