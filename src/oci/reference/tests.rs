use super::*;

#[test]
fn a_short_name_is_an_official_image_of_docker_hub() {
    let reference: Reference = "nginx".parse().unwrap();
    assert_eq!(reference.to_string(), "docker.io/library/nginx:latest");
}
