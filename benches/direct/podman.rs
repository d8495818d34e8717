//! Podman through podman-api, with the settings gx asks for.

use std::collections::HashMap;

use podman_api::Podman;
use podman_api::opts::{ContainerCreateOpts, ContainerDeleteOpts};

use crate::{COMMAND, IMAGE, Result};

pub(crate) struct Engine(Podman);

impl Engine {
    pub(crate) fn connect() -> Self {
        Self(Podman::unix("/run/podman/podman.sock"))
    }

    pub(crate) async fn create(&self, name: &str, labels: HashMap<String, String>) -> Result<()> {
        let options = ContainerCreateOpts::builder()
            .image(IMAGE)
            .name(name)
            .command(COMMAND)
            .labels(labels)
            .no_new_privilages(true) // Podman bounds the number of processes by itself
            .build();
        self.0.containers().create(&options).await?;
        Ok(())
    }

    pub(crate) async fn start_and_inspect(&self, name: &str) -> Result<()> {
        let container = self.0.containers().get(name);
        container.start(None).await?;
        container.inspect().await?;
        Ok(())
    }

    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        let options = ContainerDeleteOpts::builder().force(true).timeout(0).volumes(true).build();
        Ok(self.0.containers().get(name).delete(&options).await?)
    }
}
