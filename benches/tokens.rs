//! Makes the tokens that `./dev bench` sends.
//!
//! `tokens FOLDER ISSUER COUNT NOW SECONDS_LEFT` prints COUNT access tokens (ES256), one a line, no
//! two alike, that were issued an hour before NOW and end SECONDS_LEFT after it. The key and its
//! key set, `key.pkcs8` and `keys.json`, are made in FOLDER the first time.

use std::error::Error;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::{env, fs, io};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const AGE_SECONDS: u64 = 3600;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, issuer, count, now, seconds_left] = arguments.as_slice() else {
        return Err("usage: tokens FOLDER ISSUER COUNT NOW SECONDS_LEFT".into());
    };
    let (count, now) = (count.parse::<u64>()?, now.parse::<u64>()?);
    let exp = now + seconds_left.parse::<u64>()?;
    let key = key(Path::new(folder))?;
    let head = encode(&json!({ "alg": "ES256", "typ": "at+jwt", "kid": "bench" }));
    let mut out = BufWriter::new(io::stdout().lock());
    for number in 0..count {
        let claims = encode(&json!({
            "iss": issuer,
            "sub": "0b5d3c5e-6a0f-4c39-9f1e-2f6f3c0d9a11",
            "aud": "bench",
            "iat": now - AGE_SECONDS,
            "exp": exp,
            "jti": format!("{now}-{seconds_left}-{number}"),
            "email": "alice@example.org",
            "roles": ["staff", "editor"],
            "scope": "openid profile email",
        }));
        let signed = format!("{head}.{claims}");
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes())?;
        writeln!(out, "{signed}.{}", URL_SAFE_NO_PAD.encode(signature))?;
    }
    Ok(out.flush()?)
}

fn encode(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

fn key(folder: &Path) -> Result<EcdsaKeyPair, Box<dyn Error>> {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let file = folder.join("key.pkcs8");
    if let Ok(known) = fs::read(&file) {
        return Ok(EcdsaKeyPair::from_pkcs8(algorithm, &known)?);
    }
    let key = EcdsaKeyPair::generate(algorithm)?;
    // An uncompressed point: 4, x, y.
    let point = key.public_key().as_ref();
    let (x, y) = (point.get(1..33).ok_or("no x")?, point.get(33..65).ok_or("no y")?);
    let set = json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "bench",
        "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
    }] });
    fs::write(folder.join("keys.json"), set.to_string())?;
    fs::write(&file, key.to_pkcs8v1()?.as_ref())?;
    Ok(key)
}
