//! The committed YAML is what the types say. `make crds` mends it.

use std::{fs, path::Path};

#[test]
fn committed_definitions_are_those_of_the_types() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds");
    for crd in stomaton_crds::all_crds() {
        let name = format!("{}.yaml", crd.spec.names.plural);
        let committed = fs::read_to_string(directory.join(&name)).unwrap_or_default();
        let generated = serde_saphyr::to_string(&crd).unwrap();
        assert!(committed == generated, "manifests/crds/{name} differs from the types: run `make crds`");
    }
}
