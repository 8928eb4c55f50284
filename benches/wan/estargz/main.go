// Makes an eStargz layer of a tar, compressed or not, with the package that the format comes from:
// estargz IN OUT prints the digest of the unpacked layer and that of the table of contents.
package main

import (
	"fmt"
	"io"
	"log"
	"os"

	"github.com/containerd/stargz-snapshotter/estargz"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: estargz IN OUT")
	}
	if err := convert(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func convert(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	blob, err := estargz.Build(io.NewSectionReader(in, 0, info.Size()))
	if err != nil {
		return err
	}
	defer blob.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, blob); err != nil {
		return err
	}
	// The digest of the unpacked layer is complete once all of it was read.
	fmt.Println(blob.DiffID())
	fmt.Println(blob.TOCDigest())
	return out.Close()
}
