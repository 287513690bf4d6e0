#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ebpf_run::fuzz::config(data));
