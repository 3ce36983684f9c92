package upgrade

import "context"

// WriteReport is being written.
func (e *Engine) WriteReport(ctx context.Context, actErr error) (string, error) { return "", nil }
