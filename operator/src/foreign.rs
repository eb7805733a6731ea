//! Kinds of other projects that the operator writes when the cluster serves them: KEDA's ScaledObject and the
//! Prometheus operator's PodMonitor. Their specs stay JSON: what of them we do not write is none of our business.

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Resource, core::TypeMeta};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;

macro_rules! foreign {
    ($(#[$doc:meta])* $name:ident, $group:literal, $version:literal, $plural:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub struct $name {
            #[serde(flatten)]
            types: TypeMeta,
            /// Its metadata.
            pub metadata: ObjectMeta,
            /// What is wanted.
            #[serde(default)]
            pub spec: Value,
        }

        impl $name {
            /// An object with this spec.
            pub fn new(metadata: ObjectMeta, spec: Value) -> Self {
                Self { types: TypeMeta::resource::<Self>(), metadata, spec }
            }
        }

        impl Resource for $name {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind(_: &()) -> Cow<'_, str> {
                stringify!($name).into()
            }
            fn group(_: &()) -> Cow<'_, str> {
                $group.into()
            }
            fn version(_: &()) -> Cow<'_, str> {
                $version.into()
            }
            fn plural(_: &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

foreign! {
    /// KEDA: scales a Deployment by triggers, to zero too.
    ScaledObject, "keda.sh", "v1alpha1", "scaledobjects"
}
foreign! {
    /// Prometheus operator: pods whose metrics are collected.
    PodMonitor, "monitoring.coreos.com", "v1", "podmonitors"
}
