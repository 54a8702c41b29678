//! Compiles `native/` against libtorch's own headers and tells the linker where libtorch lies.
//!
//! The programs that use libtorch get its folder as RUNPATH, so `LD_LIBRARY_PATH` can point the same binary at another
//! copy. On a CUDA libtorch the CUDA libraries are linked by force: nothing refers to them by symbol, they register
//! themselves when loaded.

use std::path::{Path, PathBuf};

/// Programs that use libtorch; `hephaestus-forge` does not and is not linked to it.
const TORCH_BINS: [&str; 2] = ["hephaestus-train", "hephaestus-export"];

fn main() {
    println!("cargo:rerun-if-changed=native");
    let lib =
        PathBuf::from(std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys tells where libtorch's lib folder is"));
    let lib = lib.canonicalize().unwrap_or(lib);
    let root = lib.parent().expect("libtorch's lib folder has a parent");
    let cuda = lib.join("libtorch_cuda.so").exists();

    compile_native(root);
    link(&lib, cuda);
}

fn compile_native(root: &Path) {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .flag("-fopenmp")
        .flag_if_supported("-Wno-unused-parameter")
        .warnings(false)
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .include("native")
        .file("native/ops.cpp")
        .compile("hephaestus_native");
}

fn link(lib: &Path, cuda: bool) {
    let mut flags = vec![
        "-Wl,--enable-new-dtags".to_owned(),
        format!("-Wl,-rpath,{}", lib.display()),
        format!("-L{}", lib.display()),
        "-Wl,--no-as-needed".to_owned(),
        "-ltorch".to_owned(),
    ];
    if cuda {
        flags.extend(["-ltorch_cuda".to_owned(), "-lc10_cuda".to_owned()]);
    }
    flags.push("-Wl,--as-needed".to_owned());
    for flag in &flags {
        for bin in TORCH_BINS {
            println!("cargo:rustc-link-arg-bin={bin}={flag}");
        }
        println!("cargo:rustc-link-arg-tests={flag}");
        println!("cargo:rustc-link-arg-benches={flag}");
    }
    println!("cargo:rustc-link-search=native={}", lib.display());
    println!("cargo:rustc-link-lib=dylib=gomp");
}
