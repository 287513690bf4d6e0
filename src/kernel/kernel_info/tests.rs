use super::*;

#[test]
fn a_symbol_is_a_function_of_just_that_name() {
    let symbols = b"ffffffff81000000 T _stext\nffffffff81000010 t foo.isra.0\nffffffff81000015 t \xff\xfe\t[odd]\n\
                    ffffffff81000020 t bar\t[ext4]\nffffffff82000000 D data\n";
    assert!(has_symbol(symbols, "_stext") && has_symbol(symbols, "bar"));
    assert!(!has_symbol(symbols, "foo"), "its arguments are others");
    assert!(!has_symbol(symbols, "data") && !has_symbol(symbols, "stext"));
    assert!(!has_symbol(b"", "bar"));
}
