"""A version leaves the house: as an image, and to the places that run it; each deployment is written down.

Front doors: context (an image's build context), building, config (deploy.yaml), deployments, sagemaker.
"""

TARGETS = SAGEMAKER, DOCKER = "sagemaker", "docker"  # the second: this machine's docker, or podman
ENGINES = ("docker", "podman", "buildah")  # that build an image
