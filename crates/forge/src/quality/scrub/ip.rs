//! Public IPv4 addresses.

use std::net::Ipv4Addr;

use super::{Found, Kind, taken};

/// Adds the public addresses in a text to what is found, which ascends and does so after.
pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    let bytes = text.as_bytes();
    let before = found.len();
    let mut end = 0;
    for dot in memchr::memchr_iter(b'.', bytes) {
        if dot < end.max(1) || !bytes[dot - 1].is_ascii_digit() || !bytes.get(dot + 1).is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let start = dot - bytes[..dot].iter().rev().take(4).take_while(|byte| byte.is_ascii_digit()).count();
        let length = bytes[start..].iter().take(16).take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
        let written = text[start..start + length].trim_end_matches('.');
        let range = start..start + written.len();
        if alone(text, &range)
            && written.parse().is_ok_and(|ip| public(ip) && !resolver(ip))
            && !taken(&found[..before], &range)
        {
            end = range.end;
            found.push(Found { range, kind: Kind::IpAddress });
        }
    }
    if found.len() > before {
        found.sort_by_key(|found| found.range.start);
    }
}

/// Whether it is no part of a longer number or word, and no version of a program.
fn alone(text: &str, range: &std::ops::Range<usize>) -> bool {
    let before = &text[..range.start];
    let inner = |char: char| char.is_alphanumeric() || matches!(char, '.' | '_' | '-' | '=');
    let version = before.trim_end().rsplit(|char: char| !char.is_ascii_alphabetic()).next().unwrap_or("");
    let version = ["version", "versions", "release", "v"].iter().any(|word| version.eq_ignore_ascii_case(word));
    let after = |char: char| char.is_alphanumeric() || matches!(char, '_' | '-');
    !version && !before.ends_with(inner) && !text[range.end..].starts_with(after)
}

/// Whether it is routed in the public internet: not one of IANA's special-purpose registry (RFC 6890), nor multicast.
fn public(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = a == 0
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && b & 0xfe == 18)
        || a >= 224;
    !(special || ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_documentation())
}

/// Public resolvers: services, and examples everywhere.
fn resolver(ip: Ipv4Addr) -> bool {
    matches!(ip.octets(), [8, 8, 8, 8] | [8, 8, 4, 4] | [1, 1, 1, 1] | [1, 0, 0, 1] | [9, 9, 9, 9])
}

/// The address for documentation (RFC 5737) with this number, from 0; there are 762, then they come again.
pub(super) fn reserved(number: usize) -> String {
    let (block, host) = (number / 254 % 3, number % 254 + 1);
    match block {
        0 => format!("192.0.2.{host}"),
        1 => format!("198.51.100.{host}"),
        _ => format!("203.0.113.{host}"),
    }
}
