//! Images that were pulled here and that no revision needs any more.
//!
//! Owns their removal: by their reference and without force, so that the engine itself refuses where a container needs one.
//! Refuses to remove what carries another name, too: somebody has given it that, and means it to stay.

use bollard::query_parameters::RemoveImageOptionsBuilder;

use super::replace::other_name;
use super::{BollardEngine, CALL, SLOW_CALL, carried, judge};
use crate::port::engine::{Dropped, EngineError};

impl BollardEngine {
    pub(super) async fn drop_pulled(&self, image: &str) -> Result<Dropped, EngineError> {
        let client = self.client().await?;
        let found = self
            .call(
                || format!("look at the image {image}"),
                CALL,
                self.image(&client, image),
            )
            .await?;
        let Some((known_as, mut found)) = found else {
            self.forget_pulled(image);
            return Ok(Dropped::Gone);
        };
        carried::forget_own_tag(&mut found, image);
        let claimed = other_name(&found, image).is_some_and(|other| !self.pulled.has(&other));
        if claimed {
            self.forget_pulled(image);
            return Ok(Dropped::Claimed);
        }
        // Not known to be whole from here on: half of it may be gone after a power cut.
        self.unlist(&self.settled, image);
        let options = RemoveImageOptionsBuilder::default()
            .force(false)
            .noprune(false)
            .build();
        let removed = client.docker.remove_image(&known_as, Some(options), None);
        match tokio::time::timeout(SLOW_CALL, removed).await {
            Ok(Err(error)) if judge::status(&error) == Some(409) => Ok(Dropped::InUse),
            Ok(Err(error)) if judge::status(&error) == Some(404) => {
                self.forget_pulled(image);
                Ok(Dropped::Gone)
            }
            Ok(Err(error)) => Err(self.error(format!("remove the image {image}"), error)),
            Ok(Ok(_)) => {
                self.forget_pulled(image);
                Ok(Dropped::Gone)
            }
            Err(_) => Err(EngineError::Failed {
                what: format!("remove the image {image}"),
                cause: format!("it took longer than {} s", SLOW_CALL.as_secs()).into(),
            }),
        }
    }

    fn forget_pulled(&self, image: &str) {
        self.forget_taken(image);
        self.unlist(&self.settled, image);
        self.unlist(&self.pulled, image);
    }

    fn unlist(&self, list: &super::listed::Listed, image: &str) {
        if let Err(error) = list.remove(image) {
            tracing::warn!("cannot write down that the image {image} is gone: {error}");
        }
    }
}
