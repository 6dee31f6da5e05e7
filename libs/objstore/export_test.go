package objstore

// SetStep sets what is called before each step that changes the disk; nil: nothing.
func (f *Filesystem) SetStep(at func(step string) error) { f.at = at }
