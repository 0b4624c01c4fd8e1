//! What is behind the session cookie: the keys that seal it, and the tokens that are held for it.

use super::{StartError, random_bytes};
use crate::config::Config;
use crate::policy::secret::Secret;
use crate::refresh::RedisStore;
use crate::session::held::HeldTokens;
use crate::session::seal::Seals;
use crate::store::Sealer;

/// Without a key of the operator's, what one process sealed no other opens, nor the next.
pub fn seals(config: &Config) -> Result<Seals, StartError> {
    match config.cookie_keys.split_first() {
        Some((first, others)) => Ok(Seals::new(first, others)?),
        None => Ok(Seals::new(&drawn()?, &[])?),
    }
}

/// Tokens of which browsers have a handle only: shared, where session records are.
pub fn held(config: &Config, store: Option<&RedisStore>) -> Result<HeldTokens, StartError> {
    let (sealer, store) = match (&config.store, store) {
        (Some(shared), Some(store)) => {
            (Sealer::new(&shared.settings.key)?, Some(store.connection()))
        }
        (_, _) => (Sealer::new(&drawn()?)?, None),
    };
    Ok(HeldTokens::new(config.limits.sessions_max, sealer, store))
}

/// A key of this process alone.
fn drawn() -> Result<Secret, StartError> {
    let drawn: [u8; 32] = random_bytes()?;
    Ok(Secret::new(drawn.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}
