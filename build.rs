//! Compiles `native/` against libtorch's own headers and tells the linker where libtorch lies.
//!
//! Everything gets libtorch's folder as RUNPATH, so `LD_LIBRARY_PATH` can point the same binary at another copy. On a CUDA
//! libtorch what computes links the CUDA libraries by force: nothing refers to them by symbol, they register themselves
//! when loaded.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=native");
    let lib =
        PathBuf::from(std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys tells where libtorch's lib folder is"));
    let lib = lib.canonicalize().unwrap_or(lib);
    compile_native(lib.parent().expect("libtorch's lib folder has a parent"));
    link(&lib);
}

fn compile_native(root: &Path) {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .warnings(false)
        // libtorch's parallel loops are OpenMP's.
        .flag("-fopenmp")
        .flag("-fno-math-errno")
        .flag("-fno-trapping-math")
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .file("native/device.cpp")
        .file("native/functions.cpp")
        .file("native/optim.cpp")
        .file("native/rows.cpp")
        .file("native/versions.cpp")
        .compile("hephaestus_native");
}

fn link(lib: &Path) {
    println!("cargo:rustc-link-search=native={}", lib.display());
    println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo:rustc-link-arg={}", openmp(lib));
    if lib.join("libtorch_cuda.so").exists() {
        for flag in ["-Wl,--no-as-needed", "-ltorch_cuda", "-lc10_cuda", "-Wl,--as-needed"] {
            println!("cargo:rustc-link-arg-tests={flag}");
            println!("cargo:rustc-link-arg-benches={flag}");
            println!("cargo:rustc-link-arg-bin=hephaestus-export={flag}");
            println!("cargo:rustc-link-arg-bin=hephaestus-train={flag}");
        }
    }
}

/// The OpenMP library that libtorch brings, so that both share one set of threads; else the compiler's.
fn openmp(lib: &Path) -> String {
    let files = std::fs::read_dir(lib).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libgomp"));
    files.into_iter().find(named).map_or("-lgomp".to_owned(), |path| path.display().to_string())
}
