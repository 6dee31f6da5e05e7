package lines

// RowTemplates returns the template of each row of the block added last, as its place
// in the block's list of templates. It is valid until the next Add.
func (b *Builder) RowTemplates() []int64 { return b.tids }
