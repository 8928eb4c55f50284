//! An image and a file of it in one question: what can be asked for at the same time is.

use std::sync::{Arc, OnceLock};

use futures_util::{FutureExt as _, future, future::Either};

use super::Client;
use crate::{
    carve::{CarveOptions, File},
    error::Error,
    image::{
        Image,
        resolve::{self, ImageRequest},
    },
    oci::{platform::Platform, reference::ImageReference},
    progress::Unconfirmed,
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
        let (request, session) = (self.request(reference, platform), self.session(registry).await?);
        // Under a budget nothing is asked for that may not be needed.
        let may_guess = session.allowance() == u64::MAX;
        // Either may come to warn of the same.
        let [told, progress] = [(); 2].map(|()| Arc::new(Unconfirmed::new(Arc::clone(&self.progress))));
        let of = |progress: &Arc<_>| ImageRequest {
            progress: Arc::<Unconfirmed>::clone(progress),
            ..request.clone()
        };
        let opening = resolve::registry(of(&told), registry, Arc::clone(&session), may_guess.into());
        let (last, request) = (OnceLock::new(), of(&progress));
        let guessing = async {
            let guess = match may_guess {
                true => resolve::last_seen(request, registry, Arc::clone(&session)).await?,
                false => return None,
            };
            let guess = last.get_or_init(|| guess);
            session.admitted().await;
            let mut file = guess.carve_with(path, options).await;
            if let Ok(begun) = &mut file
                && let Err(error) = begun.begin().await
            {
                file = Err(error);
            }
            Some(file)
        };
        let (image, guessed) = match future::select(opening.boxed(), guessing.boxed()).await {
            Either::Left((image, guessing)) => (image, guessing),
            Either::Right((mut file, opening)) => {
                let image = match &mut file {
                    Some(Ok(file)) => file.meanwhile(opening).await,
                    _ => opening.await,
                };
                (image, future::ready(file).boxed())
            }
        };
        let image = image.inspect_err(|_| told.confirm())?;
        // Else the tag has moved, or nobody knew it. An index may have other things to say of the same image.
        let is_meant = |guess: &&Image| {
            (guess.digest(), &guess.inner.index_platform) == (image.digest(), &image.inner.index_platform)
        };
        if let Some(guess) = last.get().filter(is_meant) {
            progress.confirm();
            if let Some(file) = guessed.await {
                return Ok((guess.clone(), file));
            }
        } else {
            // What it waits for or holds is not to be in the way of what was meant.
            drop(guessed);
        }
        told.confirm();
        let file = image.carve_with(path, options).await;
        Ok((image, file))
    }
}
