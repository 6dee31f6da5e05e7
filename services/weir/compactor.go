package weir

import (
	"path/filepath"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/serve"
	"github.com/weir-logs/weir/services/compactor"
)

func (p *Process) initCompactor() (serve.Service, error) {
	s := compactor.New(p.cfg.Compactor, compactor.Deps{
		Log: p.tel.Log, Reg: p.tel.Registry, Bucket: p.storage.bucket, Loader: p.storage.loader,
		Tombstones: p.storage.deletes,
		Limits:     p.limits, View: p.View,
		Self: func() string {
			if name := p.clients.self.Load(); name != nil {
				return *name
			}
			return "" // it has not joined, and owns nothing
		},
		Alone: p.storageIsOwn(), InUse: p.inUse, OwnClock: p.cfg.Storage.Type == objstore.TypeFilesystem,
		Incarnations: p.newConfirmations().of,
		TempDir:      filepath.Join(p.cfg.DataDir, "compactor"), Now: p.now,
	})
	p.compactor = s
	s.Register(p.server.Public())
	return serve.NewService(nil, s.Run, nil), nil
}

// storageIsOwn reports whether no other process reads or writes the object store.
func (p *Process) storageIsOwn() bool {
	return p.cfg.Storage.Type == objstore.TypeFilesystem && !p.cfg.Storage.Shared && len(p.cfg.Cluster.Join) == 0 && p.cfg.runs("all")
}

// inUse reports whether something in this process reads a block of the object store.
func (p *Process) inUse(id catalog.ID) bool { return p.querier != nil && p.querier.InUse(id) }
