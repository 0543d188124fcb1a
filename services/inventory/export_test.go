package inventory

// What the tests outside the package share with those inside.
var (
	ID        = id
	Created   = created
	Moved     = moved
	Concluded = concluded
	Units     = units
)

type Snapshot = snapshot

const SnapshotEvery = snapshotEvery
