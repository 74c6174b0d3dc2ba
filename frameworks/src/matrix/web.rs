//! The client of gRPC-Web, over HTTP/1.1 byte by byte.

use std::net::SocketAddr;

use anyhow::Result;

use super::Behaviour;
use super::http::sent;
use super::observe::Answer;
use crate::setups::tonic::NAME;

/// A call, on a connection of its own.
pub(super) fn call(address: SocketAddr, behaviour: Behaviour) -> Result<Answer> {
    let (method, argument) = behaviour.call();
    // A text in the form of protocol buffers is field 1 of a message; an empty one is no field.
    let field = [0x0a, argument.len() as u8];
    let field = if argument.is_empty() { &[][..] } else { &field };
    let message = [field, argument.as_bytes()].concat();
    let body = [&[0, 0, 0, 0, message.len() as u8][..], &message].concat();
    let head = format!(
        "POST /{NAME}/{method} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\
         content-type: application/grpc-web+proto\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    sent(address, behaviour, &[head.as_bytes(), &body].concat(), code_of)
}

/// The code that stands in the head of an answer, or in the trailers at the end of its body; 0 where
/// there is none. Nothing else of an answer reads like it.
fn code_of(answer: &[u8]) -> u16 {
    const NAME: &str = "grpc-status:";
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let Some(at) = text.rfind(NAME) else { return 0 };
    let value = text[at + NAME.len()..].split(['\r', '\n']).next().unwrap_or_default();
    value.trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_read_wherever_it_stands() {
        assert_eq!(code_of(b"HTTP/1.1 200 OK\r\nGrpc-Status: 12\r\n\r\n"), 12);
        assert_eq!(code_of(b"HTTP/1.1 200 OK\r\n\r\n\x80\0\0\0\x0fgrpc-status:5\r\n"), 5);
        assert_eq!(code_of(b""), 0);
    }
}
