use super::*;

fn table(text: &[u8]) -> SymbolTable {
    SymbolTable::read(text).expect("a slice can be read")
}

#[test]
fn an_address_has_the_name_of_the_function_that_it_is_in() {
    let table = table(
        b"1000 T first\n2000 t second\n2000 t alias\n3000 D data\n3000 T code_too\n4000 d more\n5000 t in_module\t[m]\n\
          odd line\n\xff\xfe t x\n6000 t b\xffd\n0 t zero",
    );
    let name = |address| table.find(address).map(|name| String::from_utf8_lossy(name).into_owned());
    assert_eq!(name(0x0fff), None, "nothing is in front of the first");
    assert_eq!(name(0x1000).as_deref(), Some("first"));
    assert_eq!(name(0x1fff).as_deref(), Some("first"));
    assert_eq!(name(0x2001).as_deref(), Some("second"));
    assert_eq!(name(0x3001).as_deref(), Some("code_too"));
    assert_eq!(name(0x4001), None, "data is no function");
    assert_eq!(name(0x5001).as_deref(), Some("in_module"));
    assert_eq!(name(0x6001).as_deref(), Some("b\u{fffd}d"));
    assert_eq!(name(0x6000 + MAX_TAIL + 1), None, "far behind the last");
}

#[test]
fn addresses_that_are_hidden_are_not_permitted() {
    assert!(table(b"0000000000000000 T first\n0000000000000000 t second\n").symbols.is_empty());
    let mut hidden =
        Kallsyms { file: Err(io::ErrorKind::PermissionDenied.into()), table: SymbolTable::default(), read_at: None };
    assert_eq!(hidden.name(0xffff_ffff_8100_0000), Err(UnresolvedCause::NotPermitted));
}
