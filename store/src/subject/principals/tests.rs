//! The numbers of principals on both engines.

use super::*;
use crate::tests::verbs::on_both;

fn name(kind: PrincipalKind, name: &str) -> PrincipalName {
    let name = name.into();
    PrincipalName { kind, name }
}

#[tokio::test]
async fn a_number_is_given_once_and_never_again() {
    on_both(|store| async move {
        let ann = name(PrincipalKind::Account, "ann");
        let list = name(PrincipalKind::List, "ann");
        let bob = name(PrincipalKind::Account, "bob");
        let both = [ann.clone(), list.clone()];
        let given = store.principal_ids(&both).await.unwrap();
        assert_eq!(given, [PrincipalId(1), PrincipalId(2)]);
        store.checkpoint().await;
        let mixed = [bob, list, ann.clone()];
        let given = store.principal_ids(&mixed).await.unwrap();
        assert_eq!(given, [PrincipalId(3), PrincipalId(2), PrincipalId(1)]);
        assert!(store.forget_principal(ann.clone()).await.unwrap());
        assert!(!store.forget_principal(ann.clone()).await.unwrap());
        let given = store.principal_ids(&[ann]).await.unwrap();
        assert_eq!(given, [PrincipalId(4)]);
    })
    .await;
}

#[tokio::test]
async fn a_renamed_principal_keeps_its_number() {
    on_both(|store| async move {
        let [old, new] = ["a@x.example", "b@x.example"].map(|it| name(PrincipalKind::List, it));
        let renamed = store.rename_principal(old.clone(), new.clone()).await;
        assert!(!renamed.unwrap());
        let given = store
            .principal_ids(std::slice::from_ref(&old))
            .await
            .unwrap();
        let renamed = store.rename_principal(old.clone(), new.clone()).await;
        assert!(renamed.unwrap());
        store.checkpoint().await;
        assert_eq!(store.principal_ids(&[new]).await.unwrap(), given);
        assert_eq!(store.principal_ids(&[old]).await.unwrap(), [PrincipalId(2)]);
    })
    .await;
}
