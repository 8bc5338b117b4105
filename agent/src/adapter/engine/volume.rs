//! The end of a volume. Refuses what does not carry this device's label, and what a container of anybody's still uses.

use bollard::query_parameters::RemoveVolumeOptionsBuilder;

use super::{BollardEngine, CALL, SLOW_CALL, observe};
use crate::port::engine::EngineError;

impl BollardEngine {
    pub(super) async fn end_volume(&self, name: &str) -> Result<(), EngineError> {
        let client = self.client().await?;
        let look = || format!("look at the volume {name}");
        let found = self
            .settle(look, CALL, &[404], async {
                client.docker.inspect_volume(name).await.map(Some)
            })
            .await?;
        let Some(found) = found else { return Ok(()) };
        if !observe::is_ours(Some(&found.labels), &self.device) {
            return Err(EngineError::Refused {
                what: format!("remove the volume {name}"),
                cause: "it does not carry this device's label, so it is not ours".into(),
            });
        }
        let options = RemoveVolumeOptionsBuilder::default().force(false).build();
        self.end(
            || format!("remove the volume {name}"),
            SLOW_CALL,
            &[404],
            client.docker.remove_volume(name, Some(options)),
        )
        .await
    }
}
