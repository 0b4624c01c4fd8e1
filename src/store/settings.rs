//! Where the store is, as an operator writes it.
//!
//! | url | what stands there |
//! | --- | --- |
//! | `redis://[user@]host[:6379][/database]` | one server |
//! | `redis+sentinel://[user@]h1[:26379],h2,h3/master[/database]` | sentinels that know the master by this name |
//! | `redis+cluster://[user@]h1[:6379],h2` | nodes of a cluster, from which all are found |
//!
//! `rediss` in place of `redis` speaks TLS. A password in the URL is refused: an address is printed
//! by `evergate config`, a password is a secret.

use crate::policy::secret::Secret;

/// A shorter key could be guessed by whoever can read the store.
pub const STORE_KEY_BYTES_MIN: usize = 32;
/// Nodes named in one address; a cluster tells the rest.
const NODES_MAX: usize = 64;
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// `store` with kind redis, checked.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    pub address: StoreAddress,
    pub password: Option<Secret>,
    /// What values are sealed and refresh tokens are hashed with, by every gateway alike.
    pub key: Secret,
}

/// A parsed `store.url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreAddress {
    pub tls: bool,
    pub user: Option<String>,
    /// Hosts and ports, at least one.
    pub nodes: Vec<(String, u16)>,
    pub topology: Topology,
    pub database: i64,
}

/// How the servers stand to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    Single,
    /// Nodes are sentinels; they tell where the master of this name is.
    Sentinel {
        master: String,
    },
    Cluster,
}

/// Why a `store.url` is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("the scheme is not one of a Redis")]
    Scheme,
    #[error("the password does not belong into the address: it would be printed")]
    Password,
    #[error("the host is missing")]
    NoHost,
    #[error("a host or port cannot be read")]
    Host,
    #[error("one server is expected here, and several are given")]
    SeveralServers,
    #[error("more than {NODES_MAX} servers")]
    TooManyServers,
    #[error("the master's name is missing")]
    NoMaster,
    #[error("the database is not a number")]
    Database,
    #[error("a cluster has no databases")]
    ClusterDatabase,
    #[error("parameters are not understood here")]
    Parameters,
}

impl StoreAddress {
    /// Reads a `store.url`.
    ///
    /// # Errors
    /// What is wrong with it, without the text itself.
    pub fn parse(url: &str) -> Result<StoreAddress, AddressError> {
        let (scheme, rest) = url.split_once("://").ok_or(AddressError::Scheme)?;
        let (protocol, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match protocol {
            "redis" => false,
            "rediss" => true,
            _ => return Err(AddressError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(AddressError::Parameters);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => return Err(AddressError::Password),
            Some((user, hosts)) => (Some(user.to_owned()).filter(|user| !user.is_empty()), hosts),
            None => (None, authority),
        };
        let (topology, database) = match kind {
            "" => (Topology::Single, database(path)?),
            "sentinel" => {
                let (master, path) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err(AddressError::NoMaster);
                }
                (Topology::Sentinel { master: master.to_owned() }, database(path)?)
            }
            "cluster" if !path.is_empty() => return Err(AddressError::ClusterDatabase),
            "cluster" => (Topology::Cluster, 0),
            _ => return Err(AddressError::Scheme),
        };
        let port = if matches!(topology, Topology::Sentinel { .. }) { SENTINEL_PORT } else { PORT };
        let nodes = hosts.split(',').map(|node| host_and_port(node, port));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        match nodes.len() {
            1 => {}
            _ if topology == Topology::Single => return Err(AddressError::SeveralServers),
            many if many > NODES_MAX => return Err(AddressError::TooManyServers),
            _ => {}
        }
        Ok(StoreAddress { tls, user, nodes, topology, database })
    }
}

fn database(path: &str) -> Result<i64, AddressError> {
    match path {
        "" => Ok(0),
        path => path.parse::<u16>().map(i64::from).map_err(|_| AddressError::Database),
    }
}

fn host_and_port(node: &str, default: u16) -> Result<(String, u16), AddressError> {
    // An IPv6 address stands in brackets, which are no part of it.
    let (host, rest) = match node.strip_prefix('[') {
        Some(inner) => inner.split_once(']').ok_or(AddressError::Host)?,
        None => node.split_at(node.find(':').unwrap_or(node.len())),
    };
    if host.is_empty() {
        return Err(AddressError::NoHost);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if !host.chars().all(plain) {
        return Err(AddressError::Host);
    }
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(AddressError::Host)?,
        None if rest.is_empty() => default,
        None => return Err(AddressError::Host),
    };
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: u16) -> (String, u16) {
        (host.to_owned(), port)
    }

    fn single(nodes: Vec<(String, u16)>) -> StoreAddress {
        StoreAddress { tls: false, user: None, nodes, topology: Topology::Single, database: 0 }
    }

    #[test]
    fn one_server_may_have_a_user_a_port_and_a_database() {
        assert_eq!(StoreAddress::parse("redis://a"), Ok(single(vec![node("a", 6379)])));
        let full = StoreAddress {
            tls: true,
            user: Some("gate".to_owned()),
            database: 3,
            ..single(vec![node("::1", 7000)])
        };
        assert_eq!(StoreAddress::parse("rediss://gate@[::1]:7000/3"), Ok(full));
    }

    #[test]
    fn sentinels_know_a_master_by_name() {
        let topology = Topology::Sentinel { master: "main".to_owned() };
        let nodes = vec![node("a", 26379), node("b", 5000)];
        let found = StoreAddress::parse("redis+sentinel://a,b:5000/main/2");
        assert_eq!(found, Ok(StoreAddress { topology, database: 2, ..single(nodes) }));
    }

    #[test]
    fn a_cluster_is_found_from_some_of_its_nodes() {
        let nodes = vec![node("a", 6379), node("b", 5000)];
        let expected = StoreAddress { topology: Topology::Cluster, tls: true, ..single(nodes) };
        assert_eq!(StoreAddress::parse("rediss+cluster://a,b:5000"), Ok(expected));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("localhost:6379", AddressError::Scheme),
            ("http://a", AddressError::Scheme),
            ("redis+ring://a", AddressError::Scheme),
            ("redis://user:secret@a", AddressError::Password),
            ("redis://:secret@a", AddressError::Password),
            ("redis://", AddressError::NoHost),
            ("redis+cluster://a,,b", AddressError::NoHost),
            ("redis://a b", AddressError::Host),
            ("redis://a:0", AddressError::Host),
            ("redis://[::1", AddressError::Host),
            ("redis://a,b", AddressError::SeveralServers),
            ("redis+sentinel://a", AddressError::NoMaster),
            ("redis://a/main", AddressError::Database),
            ("redis+cluster://a/1", AddressError::ClusterDatabase),
            ("redis://a?protocol=2", AddressError::Parameters),
        ];
        for (url, expected) in cases {
            assert_eq!(StoreAddress::parse(url), Err(expected), "{url}");
        }
        let many = format!("redis+cluster://a{}", ",a".repeat(NODES_MAX));
        assert_eq!(StoreAddress::parse(&many), Err(AddressError::TooManyServers));
    }
}
