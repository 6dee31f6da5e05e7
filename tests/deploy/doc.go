// Package deploy checks what deploy/ holds against the programs: that Kubernetes
// manifests are of the types of its API, that what they refer to is there, that the
// programs take the configurations and flags, and that dashboards and alerts ask for
// metrics that there are. It has no code but its tests.
package deploy
