//! Docker through bollard, with the settings gx asks for.

use std::collections::HashMap;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};

use crate::{COMMAND, IMAGE, Result};

pub(crate) struct Engine(Docker);

impl Engine {
    /// Prepares a connection; the version is not negotiated, which saves the crate a call.
    pub(crate) fn connect() -> Result<Self> {
        // Docker 20.10, the oldest engine gx is tested with, speaks 1.41.
        let version = bollard::ClientVersion { major_version: 1, minor_version: 41 };
        Ok(Self(Docker::connect_with_unix("/var/run/docker.sock", 120, &version)?))
    }

    pub(crate) async fn create(&self, name: &str, labels: HashMap<String, String>) -> Result<()> {
        let body = ContainerCreateBody {
            image: Some(IMAGE.to_owned()),
            cmd: Some(COMMAND.map(str::to_owned).to_vec()),
            labels: Some(labels),
            host_config: Some(HostConfig {
                pids_limit: Some(4_096),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        self.0.create_container(Some(options), body).await?;
        Ok(())
    }

    pub(crate) async fn start_and_inspect(&self, name: &str) -> Result<()> {
        self.0.start_container(name, None).await?;
        self.0.inspect_container(name, None).await?;
        Ok(())
    }

    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::default().v(true).force(true).build();
        Ok(self.0.remove_container(name, Some(options)).await?)
    }
}
