//! Compiles `native/` against libtorch's own headers and tells the linker where libtorch lies.
//!
//! Everything gets libtorch's folder as RUNPATH, so `LD_LIBRARY_PATH` can point the same binary at another copy. On a CUDA
//! libtorch what computes links the CUDA libraries by force: nothing refers to them by symbol, they register themselves
//! when loaded. There the kernels are compiled too, if there is an nvcc; no GPU is needed for that.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The files of `native/kernels`.
const KERNELS: [&str; 6] = ["all", "fp8", "loss", "norm", "rope", "swiglu"];

/// What kernels are compiled for: A100, H100 and H200, and PTX that drivers compile for whatever comes later.
const GENCODES: [&str; 3] =
    ["arch=compute_80,code=sm_80", "arch=compute_90,code=sm_90", "arch=compute_90,code=compute_90"];

fn main() {
    println!("cargo:rerun-if-changed=native");
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    let lib =
        PathBuf::from(std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys tells where libtorch's lib folder is"));
    let lib = lib.canonicalize().unwrap_or(lib);
    let root = lib.parent().expect("libtorch's lib folder has a parent");
    let toolkit = lib.join("libtorch_cuda.so").exists().then(|| Toolkit::find(root)).flatten();
    compile_native(root, toolkit.as_ref());
    link(&lib);
}

/// CUDA's compiler, headers and libraries.
struct Toolkit {
    root: PathBuf,
}

impl Toolkit {
    /// Where `CUDA_HOME` says, else beside the Python wheel that libtorch came in, else where CUDA's installer puts it.
    fn find(libtorch: &Path) -> Option<Self> {
        let named = std::env::var_os("CUDA_HOME").map(PathBuf::from);
        let beside = libtorch.parent().map(|packages| packages.join("nvidia/cu13"));
        let places = [named, beside, Some(PathBuf::from("/usr/local/cuda"))];
        let root = places.into_iter().flatten().find(|root| root.join("bin/nvcc").is_file())?;
        Some(Self { root })
    }

    /// Where NCCL's header lies: beside the Python wheel that libtorch came in, else in the toolkit, else where a
    /// distribution's packages put it.
    fn nccl(&self, libtorch: &Path) -> Option<PathBuf> {
        let beside = libtorch.parent().map(|packages| packages.join("nvidia/nccl/include"));
        let places = [beside, Some(self.root.join("include")), Some(PathBuf::from("/usr/include"))];
        places.into_iter().flatten().find(|place| place.join("nccl.h").is_file())
    }

    /// Compiles the kernels into objects, side by side.
    fn compile_kernels(&self) -> Vec<PathBuf> {
        let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo tells where to write"));
        let started = KERNELS.map(|kernel| {
            let object = out.join(format!("{kernel}.o"));
            let mut nvcc = Command::new(self.root.join("bin/nvcc"));
            nvcc.args(["-std=c++17", "-O3", "-lineinfo", "-Xcompiler=-fPIC", "-c"]).arg("-o").arg(&object);
            nvcc.arg(format!("native/kernels/{kernel}.cu"));
            nvcc.args(GENCODES.iter().flat_map(|gencode| ["-gencode", gencode]));
            (nvcc.spawn().expect("nvcc starts"), object)
        });
        let ended = started.map(|(mut nvcc, object)| {
            let status = nvcc.wait().expect("nvcc ends");
            assert!(status.success(), "nvcc failed on {}: {status}", object.display());
            object
        });
        ended.into()
    }

    /// The CUDA runtime, linked whole as it finds the driver by itself, and libtorch's streams.
    fn link_runtime(&self) {
        let lib = ["lib64", "lib"].map(|name| self.root.join(name));
        let lib = lib.iter().find(|lib| lib.join("libcudart_static.a").is_file());
        println!("cargo:rustc-link-search=native={}", lib.expect("nvcc comes with libcudart_static.a").display());
        for library in
            ["static=cudart_static", "dylib=torch_cuda", "dylib=c10_cuda", "dylib=rt", "dylib=pthread", "dylib=dl"]
        {
            println!("cargo:rustc-link-lib={library}");
        }
    }
}

fn compile_native(root: &Path, toolkit: Option<&Toolkit>) {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .warnings(false)
        // libtorch's parallel loops are OpenMP's.
        .flag("-fopenmp")
        .flag("-fno-math-errno")
        .flag("-fno-trapping-math")
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"));
    if !root.join("include/gloo/context.h").is_file() {
        // What of Gloo's headers libtorch's own need.
        build.include("native");
    }
    if let Some(toolkit) = toolkit {
        build.define("HEPHAESTUS_KERNELS", None).include(toolkit.root.join("include"));
        build.objects(toolkit.compile_kernels());
        if let Some(headers) = toolkit.nccl(root) {
            build.define("HEPHAESTUS_NCCL", None).include(headers);
        }
    }
    let files = [
        "attention",
        "device",
        "functions",
        "groups",
        "linear",
        "loops",
        "memory",
        "optim",
        "products",
        "profile",
        "rows",
        "store",
        "streams",
        "versions",
    ];
    for file in files {
        build.file(format!("native/{file}.cpp"));
    }
    build.compile("hephaestus_native");
    if let Some(toolkit) = toolkit {
        toolkit.link_runtime();
    }
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
            println!("cargo:rustc-link-arg-bin=hephaestus-doctor={flag}");
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
