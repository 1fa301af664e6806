use super::*;
use crate::selection::catalog::Group;

fn options_in(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Options> {
    let arguments = ["mirror-images", "--dry-run"].iter().chain(arguments);
    let cli = Cli::try_from_arguments(arguments)?;
    let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    Options::new(cli, &get)
}

fn options(arguments: &[&str]) -> Result<Options> {
    options_in(arguments, &[])
}

fn error(arguments: &[&str]) -> String {
    format!("{:#}", options(arguments).unwrap_err())
}

#[test]
fn the_environment_of_image_loader_sh_is_enough() {
    let loader = [
        ("TARGET_REGISTRY", "127.0.0.1:5000"),
        ("KUBERNETES_VERSION", "v1.36.3"),
        ("PULL_OPTIONAL_IMAGES", "false"),
    ];
    let o = options_in(&[], &loader).unwrap();
    assert_eq!(o.target.to_string(), "127.0.0.1:5000");
    let query = o.choice.query.unwrap();
    assert_eq!(query.kubernetes, ["v1.36.3"]);
    assert_eq!(query.groups, [Group::Base, Group::ControlPlane]);
}

#[test]
fn a_flag_beats_its_variable() {
    let variables = [
        ("TARGET_REGISTRY", "a.example.com"),
        ("KUBERNETES_VERSIONS", "1.34,1.35"),
        ("PULL_OPTIONAL_IMAGES", "false"),
    ];
    let o = options_in(&["-k", "1.36.1", "--filter", "optional", "b.example.com"], &variables).unwrap();
    assert_eq!(o.target.to_string(), "b.example.com");
    let query = o.choice.query.unwrap();
    assert_eq!(query.kubernetes, ["1.36.1"]);
    assert_eq!(query.groups, [Group::Optional]);
}

#[test]
fn filters_are_lists_and_none_means_all() {
    let groups = |filter: &[&str]| options(&[filter, &["r"]].concat()).unwrap().choice.query.unwrap().groups;
    assert_eq!(groups(&["--filter", "base,control-plane"]), [Group::Base, Group::ControlPlane]);
    assert_eq!(groups(&["--filter", "base", "--filter", "optional"]), [Group::Base, Group::Optional]);
    assert_eq!(groups(&["--filter", "none"]), []);
    assert_eq!(groups(&[]), []);
    assert!(error(&["--filter", "base,none", "r"]).contains("leave none out"));
}

#[test]
fn the_environment_decides_only_where_no_flag_selects() {
    let choice = |arguments: &[&str], variables: &[(&str, &str)]| {
        options_in(&[arguments, &["r"]].concat(), variables).unwrap().choice
    };
    let version = [("KUBERNETES_VERSION", "1.36.3")];
    let without = [("PULL_OPTIONAL_IMAGES", "false")];
    let silent: &[&str] = &[];
    assert!(choice(&["--image", "alpine:3"], &version).query.is_none());
    for flags in [["--provider", "aws"], ["--cni", "cilium"], ["--addon", "cluster-autoscaler"]] {
        let choice = choice(&flags, &without);
        assert_eq!(choice.warnings, silent, "{flags:?}");
        assert!(choice.query.unwrap().groups.is_empty(), "{flags:?}");
    }
    // What no flag says is the environment's to say, but not in silence.
    let narrowed = choice(&["--provider", "aws"], &version);
    assert_eq!(narrowed.query.unwrap().kubernetes, ["1.36.3"]);
    assert!(narrowed.warnings[0].starts_with("KUBERNETES_VERSION "), "{:?}", narrowed.warnings);
    let cut = choice(&["-k", "1.36.3"], &without);
    assert_eq!(cut.query.unwrap().groups, [Group::Base, Group::ControlPlane]);
    assert!(cut.warnings[0].starts_with("PULL_OPTIONAL_IMAGES=false "), "{:?}", cut.warnings);
    assert_eq!(choice(&[], &[version, without].concat()).warnings, silent);
    // The same as no variable at all.
    assert!(choice(&[], &[("KUBERNETES_VERSIONS", ", ,")]).query.unwrap().kubernetes.is_empty());
}

#[test]
fn a_wrong_group_names_the_right_ones() {
    let told = error(&["--filter", "bass", "r"]);
    for group in ["base", "optional", "control-plane", "none"] {
        assert!(told.contains(group), "{told}");
    }
}

#[test]
fn the_target_is_named_once() {
    assert_eq!(options(&["--registry", "r:5000"]).unwrap().target.to_string(), "r:5000");
    assert_eq!(options(&["--registry", "r:5000", "r:5000"]).unwrap().target.to_string(), "r:5000");
    assert!(error(&["--registry", "a", "b"]).contains("two targets"));
    assert!(error(&[]).contains("TARGET_REGISTRY"));
    assert!(error(&["https://r"]).contains("without a scheme"));
}

#[test]
fn source_mirrors_are_read_with_their_scheme() {
    let o = options(&[
        "r",
        "--source-mirror",
        "docker.io=http://127.0.0.1:5000/hub",
        "--source-mirror",
        "quay.io=c",
    ]);
    let mirrors = o.unwrap().source_mirrors;
    assert_eq!(
        (mirrors[0].scheme, mirrors[0].place.to_string()),
        (Scheme::Http, "127.0.0.1:5000/hub".to_owned())
    );
    assert_eq!((mirrors[1].scheme, mirrors[1].place.to_string()), (Scheme::Https, "c".to_owned()));
    assert!(error(&["r", "--source-mirror", "docker.io"]).contains("HOST=PLACE"));
    let twice = ["r", "--source-mirror", "docker.io=a", "--source-mirror", "docker.io=b"];
    assert!(error(&twice).contains("two places for docker.io"));
}

#[test]
fn none_at_a_time_is_refused() {
    assert!(error(&["-p", "0", "r"]).contains("-p") || error(&["-p", "0", "r"]).contains("parallel"));
    let limit = options(&["--parallel-image-copy-limit", "3", "r"]).unwrap().parallel;
    assert_eq!(limit.get(), 3);
}

#[test]
fn named_images_are_the_selection_alone_and_add_to_it_beside_others() {
    let o = options(&["--image", "alpine:3", "r"]).unwrap();
    assert!(o.choice.query.is_none());
    assert_eq!(o.choice.images[0].reference.to_string(), "docker.io/library/alpine:3");
    assert!(options(&["--image", "alpine:3", "-k", "1.36", "r"]).unwrap().choice.query.is_some());
    assert!(error(&["--image", "Not:an:image", "r"]).contains("--image"));
    assert!(error(&["--images-from", "/nowhere/list", "r"]).contains("cannot read /nowhere/list"));
}

#[test]
fn whoever_waits_no_longer_for_a_byte_waits_no_longer_for_an_answer() {
    let times = |flags: &[&str]| {
        let timing = options(&[flags, &["r"]].concat()).unwrap().policy.timing;
        [timing.stall, timing.answer, timing.commit].map(|time| time.as_secs())
    };
    assert_eq!(times(&[]), [60, 60, 600]);
    assert_eq!(times(&["--stall-timeout", "5s"]), [5, 5, 600]);
    assert_eq!(times(&["--stall-timeout", "5m"]), [300, 60, 600]);
}
