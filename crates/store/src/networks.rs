//! Network records.

use tare_model::network::Network;
use tare_model::{NetworkId, Result};

use crate::error::corrupt;
use crate::meta::{Op, Table};
use crate::store::Store;

// === impl Store ===

impl Store {
    /// All networks that are kept. Damaged records are described in the second list and left alone.
    ///
    /// # Errors
    /// `System` if the database cannot be read.
    pub fn networks(&self) -> Result<(Vec<Network>, Vec<String>)> {
        let (mut networks, mut damage) = (Vec::new(), Vec::new());
        for (key, value) in self.meta.scan(Table::Networks)? {
            match serde_json::from_slice(&value) {
                Ok(network) => networks.push(network),
                Err(e) => damage.push(corrupt(format!("record of network {key}: {e}")).to_string()),
            }
        }
        Ok((networks, damage))
    }

    /// Keeps a network, new or changed. **Blocks on the disk.**
    ///
    /// # Errors
    /// `System` if it could not be written; then nothing has changed.
    pub fn keep_network(&self, network: &Network) -> Result<()> {
        let record = serde_json::to_vec(network).map_err(|e| corrupt(format!("network record: {e}")))?;
        self.meta.commit(vec![Op::Put(Table::Networks, network.id.as_str().to_owned(), record)])
    }

    /// Forgets a network; one that is not there is fine. **Blocks on the disk.**
    ///
    /// # Errors
    /// `System` if it could not be written; then it is still there.
    pub fn forget_network(&self, id: &NetworkId) -> Result<()> {
        self.meta.commit(vec![Op::Delete(Table::Networks, id.as_str().to_owned())])
    }
}
