//! Who can log in to the demo. The passwords are no secret: the login page shows them.

/// A person of the demo.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    /// The token's `sub`.
    pub name: &'static str,
    pub password: &'static str,
    pub email: &'static str,
    pub roles: &'static [&'static str],
}

/// Works here: sees the app, not its admin pages.
pub static ALICE: User =
    User { name: "alice", password: "wonderland", email: "alice@example.com", roles: &["staff"] };

/// Runs the place.
pub static ROOT: User =
    User { name: "root", password: "toor", email: "root@example.com", roles: &["admin"] };

static USERS: [&User; 2] = [&ALICE, &ROOT];

/// The user of this name.
pub fn find(name: &str) -> Option<&'static User> {
    USERS.into_iter().find(|user| user.name == name)
}

/// The user of this name, if the password is right. Compared plainly: it is printed on the page.
pub fn check(name: &str, password: &str) -> Option<&'static User> {
    find(name).filter(|user| user.password == password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_finds_a_user() {
        assert_eq!(check("alice", "wonderland"), Some(&ALICE));
        assert_eq!(check("alice", "toor"), None);
        assert_eq!(check("mallory", "wonderland"), None);
    }
}
