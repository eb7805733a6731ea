//! Writes the definitions of all kinds, one YAML file each, into the directory given.

use std::{env, fs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let Some(directory) = env::args().nth(1) else {
        eprintln!("usage: crdgen DIRECTORY");
        return ExitCode::from(2);
    };
    match write(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crdgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(directory)?;
    for crd in stomaton_crds::all_crds() {
        let yaml = serde_saphyr::to_string(&crd)?;
        fs::write(directory.join(format!("{}.yaml", crd.spec.names.plural)), yaml)?;
    }
    Ok(())
}
