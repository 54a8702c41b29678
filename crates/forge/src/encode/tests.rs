//! Tokens as the library gives them, on hostile text and on real text.
