use super::*;

#[test]
fn targets_take_the_shipped_configs_and_any_bytes() {
    for (_, text) in crate::catalog::configs() {
        config(text.as_bytes());
    }
    fixture(br#"{"probe":"exec","pid":1,"comm":"sh"}"#);
    fixture(b"{\"probe\":\"latency\"");
    for which in 0..LAYOUTS.len() as u8 {
        for byte in [0, 1, 0x7f, 0xff] {
            for length in [0, 1, 64, 8192] {
                let mut data = vec![which];
                data.resize(1 + length, byte);
                record(&data);
            }
        }
        template(&[&[which], b"{{ pid | left(7) }} {{ ts".as_slice()].concat());
        template(&[&[which], b"{% for n in range(9) %}{{ ts }}{% endfor %}".as_slice()].concat());
    }
    config(&[0xff]);
    template(&[]);
}
