//! The contract of a session store, for stores that only this binary starts.

use std::time::Duration;

use async_trait::async_trait;
use evergate::policy::secret::Secret;
use evergate::refresh::*;

#[path = "../../src/refresh/store/tests.rs"]
pub mod claims;
