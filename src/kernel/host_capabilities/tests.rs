use super::*;

#[test]
fn tracefs_is_found_among_the_mounts() {
    let mounts = b"proc /proc proc rw 0 0\nfuse /home/u/\xff\xfe fuse.x rw 0 0\ntracefs /no/such/tracing tracefs rw,nosuid 0 0\n";
    assert_eq!(tracefs(mounts), Tracefs::Closed("/no/such/tracing".into()));
}

#[test]
fn the_machine_can_be_read_by_every_user() {
    let facts = HostCapabilities::read(&Host::read(), &KernelInfo::default());
    assert!(!facts.machine.is_empty());
    assert_eq!(facts.types, Path::new(super::super::host::VMLINUX_BTF).exists());
}
