//! Scripts that the server runs as one atomic step.

use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, ToRedisArgs, Value};

use super::link::Connection;

/// One step, known to the server by its SHA-1.
pub struct Script {
    code: String,
    hash: String,
}

/// A script with its keys and arguments.
pub struct Call<'a> {
    script: &'a Script,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl Script {
    pub fn new(code: String) -> Script {
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Script { code, hash }
    }

    /// All `keys` must have the same hash tag: a cluster runs a script on one node.
    pub fn with_keys(&self, keys: impl IntoIterator<Item = String>) -> Call<'_> {
        Call { script: self, keys: keys.into_iter().collect(), args: Vec::new() }
    }
}

impl Call<'_> {
    /// Adds an argument, or each of several.
    pub fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        arg.write_redis_args(&mut self.args);
        self
    }

    /// Runs it, and hands the server the script's text if it does not have it (any more).
    ///
    /// With the text in place of `SCRIPT LOAD`, which a cluster sends to every master: one of them may
    /// be down, and only the one that is asked needs it.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn on<T: FromRedisValue>(self, mut connection: Connection) -> RedisResult<T> {
        let by_hash = self.command("EVALSHA", &self.script.hash);
        let answer =
            match connection.req_packed_command(&by_hash).await.and_then(Value::extract_error) {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    let by_text = self.command("EVAL", &self.script.code);
                    connection.req_packed_command(&by_text).await?.extract_error()?
                }
                answer => answer?,
            };
        Ok(T::from_redis_value(answer)?)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(&self.args);
        command
    }
}
