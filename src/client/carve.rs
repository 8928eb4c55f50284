//! An image and a file of it in one question: requests that do not depend on each other are concurrent.

use std::sync::{Arc, OnceLock};

use super::Client;
use crate::{
    carve::{CarveOptions, File},
    error::Error,
    image::{
        Image,
        resolve::{self, ImageRequest},
    },
    oci::{platform::Platform, reference::ImageReference},
    read::task::Task,
};

impl Client {
    /// Opens an image, as [`Client::image`] does, and finds a file in it, as [`Image::carve_with`] does.
    ///
    /// Where the [cache](super::ClientBuilder::cache) knows what the image's tag meant the last time, the file is asked for while
    /// the registry is asked whether it still means that: a round trip less. If the tag has moved, what came is thrown away.
    ///
    /// # Errors
    ///
    /// Those of [`Client::image`]; the inner ones are those of [`Image::carve_with`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use layerslayer::{CarveOptions, Client, Platform};
    ///
    /// let client = Client::builder().build()?;
    /// let (reference, options) = ("oci:fixtures/demo".parse()?, CarveOptions::default());
    /// let (image, file) = client.carve(&reference, &Platform::default(), "/etc/passwd", &options).await?;
    /// assert_eq!(image.layers().len(), 3);
    /// assert!(file?.read_to_end(1 << 20).await?.starts_with(b"root:"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn carve(
        &self,
        reference: &ImageReference,
        platform: &Platform,
        path: impl AsRef<[u8]> + Send,
        options: &CarveOptions,
    ) -> Result<(Image, Result<File, Error>), Error> {
        let path = path.as_ref();
        let ImageReference::Registry(registry) = reference else {
            let image = self.image(reference, platform).await?;
            let file = image.carve_with(path, options).await;
            return Ok((image, file));
        };
        let request = self.request(reference, platform);
        let session = self.session(registry, &request.progress).await?;
        // Under a budget only what is certainly needed is requested.
        let may_guess = session.allowance() == u64::MAX;
        // Both may warn about the same.
        let opened = Arc::new(request.progress.holding_warnings());
        // The image that was seen last may be another one.
        let progress = Arc::new(self.progress.for_image(reference).holding_warnings());
        let of = |progress: &Arc<_>| ImageRequest { progress: Arc::clone(progress), ..request.clone() };
        let opening = resolve::registry(of(&opened), registry, Arc::clone(&session), may_guess.into());
        let (seen, last) = (of(&progress), Arc::new(OnceLock::new()));
        // The image that the tag meant last time: its file is requested while the tag is resolved.
        let guess = may_guess.then(|| {
            let (registry, session, path) = (registry.clone(), Arc::clone(&session), path.to_vec());
            let (options, last) = (*options, Arc::clone(&last));
            Task::spawn(async move {
                let Some(image) = resolve::last_seen(seen, &registry, Arc::clone(&session)).await else {
                    return Ok(None);
                };
                let image = last.get_or_init(|| image);
                session.auth_settled().await;
                let mut file = image.carve_with(&path, &options).await;
                if let Ok(begun) = &mut file
                    && let Err(error) = begun.begin().await
                {
                    file = Err(error);
                }
                Ok(Some(file))
            })
        });
        let image = opening.await.inspect_err(|_| opened.confirm())?;
        // Else the tag has moved, or was never seen. An index may say something else about the same image.
        let is_meant = |guess: &&Image| {
            (guess.digest(), &guess.inner.index_platform) == (image.digest(), &image.inner.index_platform)
        };
        if let (Some(guess), Some(seen)) = (guess, last.get().filter(is_meant)) {
            progress.confirm();
            if let Some(file) = guess.await? {
                return Ok((seen.clone(), file));
            }
        }
        opened.confirm();
        let file = image.carve_with(path, options).await;
        Ok((image, file))
    }
}
