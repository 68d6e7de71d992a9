//! Denied WASI access: file system and network of WASI, always refused with an error that the guest's language understands.
//!
//! Without any preopened directory, a language runtime would itself report a missing file, and the attempt would stay
//! unnoticed. So a root directory is preopened that denies every access: an attempt returns the error `access`
//! (`PermissionError` in Python, `PermissionDenied` in Rust), counts in the metrics and adds a line to the trace. No file or
//! socket of the operating system is ever involved.

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode, Filesize,
    HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode as SocketCode, IpAddress, IpAddressFamily, Network};
use wasmtime_wasi::p2::bindings::sockets::{ip_name_lookup, tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, FsError, FsResult, SocketError, SocketResult, TcpSocket, UdpSocket,
};

use crate::state::State;

/// Name of the only preopened directory.
const ROOT: &str = "/";

/// Replaces the linked WASI interfaces of files and sockets by the denying versions.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    linker.allow_shadowing(true);
    types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    preopens::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    tcp_create_socket::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    udp_create_socket::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    ip_name_lookup::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl State {
    fn no_file<T>(&mut self, call: &'static str, path: &str) -> FsResult<T> {
        self.refused_what(call, path);
        Err(ErrorCode::Access.into())
    }

    fn no_socket<T>(&mut self, call: &'static str, what: &str) -> SocketResult<T> {
        self.refused_what(call, what);
        Err(SocketCode::AccessDenied.into())
    }
}

/// Returns the error for an operation on an open file: the root is a directory.
fn no_such_thing<T>() -> FsResult<T> {
    Err(ErrorCode::IsDirectory.into())
}

impl preopens::Host for State {
    fn get_directories(&mut self) -> Result<Vec<(Resource<Descriptor>, String)>> {
        // The handle is only a number for the guest and is never looked up.
        Ok(vec![(Resource::new_own(0), ROOT.to_owned())])
    }
}

impl types::Host for State {
    fn convert_error_code(&mut self, error: FsError) -> Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(&mut self, _: Resource<wasmtime::Error>) -> Result<Option<ErrorCode>> {
        // No file stream exists, so none can fail.
        Ok(None)
    }
}

type Dir = Resource<Descriptor>;

impl HostDescriptor for State {
    async fn open_at(&mut self, _: Dir, _: PathFlags, path: String, _: OpenFlags, _: DescriptorFlags) -> FsResult<Dir> {
        self.no_file("wasi.open", &path)
    }

    async fn stat_at(&mut self, _: Dir, _: PathFlags, path: String) -> FsResult<DescriptorStat> {
        self.no_file("wasi.stat", &path)
    }

    async fn readlink_at(&mut self, _: Dir, path: String) -> FsResult<String> {
        self.no_file("wasi.stat", &path)
    }

    async fn metadata_hash_at(&mut self, _: Dir, _: PathFlags, path: String) -> FsResult<MetadataHashValue> {
        self.no_file("wasi.stat", &path)
    }

    async fn read_directory(&mut self, _: Dir) -> FsResult<Resource<DirectoryEntryStream>> {
        self.no_file("wasi.list", ROOT)
    }

    async fn create_directory_at(&mut self, _: Dir, path: String) -> FsResult<()> {
        self.no_file("wasi.change", &path)
    }

    async fn set_times_at(&mut self, _: Dir, _: PathFlags, path: String, _: NewTimestamp, _: NewTimestamp) -> FsResult<()> {
        self.no_file("wasi.change", &path)
    }

    async fn link_at(&mut self, _: Dir, _: PathFlags, path: String, _: Dir, _: String) -> FsResult<()> {
        self.no_file("wasi.change", &path)
    }

    async fn symlink_at(&mut self, _: Dir, _: String, path: String) -> FsResult<()> {
        self.no_file("wasi.change", &path)
    }

    async fn rename_at(&mut self, _: Dir, path: String, _: Dir, _: String) -> FsResult<()> {
        self.no_file("wasi.change", &path)
    }

    async fn remove_directory_at(&mut self, _: Dir, path: String) -> FsResult<()> {
        self.no_file("wasi.change", &path)
    }

    async fn unlink_file_at(&mut self, _: Dir, path: String) -> FsResult<()> {
        self.no_file("wasi.change", &path)
    }

    async fn set_times(&mut self, _: Dir, _: NewTimestamp, _: NewTimestamp) -> FsResult<()> {
        self.no_file("wasi.change", ROOT)
    }

    // Operations that a language runtime performs on a directory before use.

    async fn get_flags(&mut self, _: Dir) -> FsResult<DescriptorFlags> {
        Ok(DescriptorFlags::READ)
    }

    async fn get_type(&mut self, _: Dir) -> FsResult<DescriptorType> {
        Ok(DescriptorType::Directory)
    }

    async fn stat(&mut self, _: Dir) -> FsResult<DescriptorStat> {
        Ok(DescriptorStat {
            type_: DescriptorType::Directory,
            link_count: 1,
            size: 0,
            data_access_timestamp: None,
            data_modification_timestamp: None,
            status_change_timestamp: None,
        })
    }

    async fn metadata_hash(&mut self, _: Dir) -> FsResult<MetadataHashValue> {
        Ok(MetadataHashValue { lower: 0, upper: 0 })
    }

    async fn is_same_object(&mut self, _: Dir, _: Dir) -> Result<bool> {
        Ok(true)
    }

    async fn advise(&mut self, _: Dir, _: Filesize, _: Filesize, _: Advice) -> FsResult<()> {
        no_such_thing()
    }

    async fn sync(&mut self, _: Dir) -> FsResult<()> {
        no_such_thing()
    }

    async fn sync_data(&mut self, _: Dir) -> FsResult<()> {
        no_such_thing()
    }

    async fn set_size(&mut self, _: Dir, _: Filesize) -> FsResult<()> {
        no_such_thing()
    }

    async fn read(&mut self, _: Dir, _: Filesize, _: Filesize) -> FsResult<(Vec<u8>, bool)> {
        no_such_thing()
    }

    async fn write(&mut self, _: Dir, _: Vec<u8>, _: Filesize) -> FsResult<Filesize> {
        no_such_thing()
    }

    fn read_via_stream(&mut self, _: Dir, _: Filesize) -> FsResult<Resource<DynInputStream>> {
        no_such_thing()
    }

    fn write_via_stream(&mut self, _: Dir, _: Filesize) -> FsResult<Resource<DynOutputStream>> {
        no_such_thing()
    }

    fn append_via_stream(&mut self, _: Dir) -> FsResult<Resource<DynOutputStream>> {
        no_such_thing()
    }

    fn drop(&mut self, _: Dir) -> Result<()> {
        Ok(())
    }
}

impl HostDirectoryEntryStream for State {
    async fn read_directory_entry(&mut self, _: Resource<DirectoryEntryStream>) -> FsResult<Option<DirectoryEntry>> {
        Ok(None)
    }

    fn drop(&mut self, _: Resource<DirectoryEntryStream>) -> Result<()> {
        Ok(())
    }
}

impl network::Host for State {
    fn convert_error_code(&mut self, error: SocketError) -> Result<SocketCode> {
        error.downcast()
    }

    fn network_error_code(&mut self, _: Resource<wasmtime::Error>) -> Result<Option<SocketCode>> {
        Ok(None)
    }
}

impl network::HostNetwork for State {
    fn drop(&mut self, network: Resource<Network>) -> Result<()> {
        network::HostNetwork::drop(&mut wasmtime_wasi::sockets::WasiSocketsView::sockets(self), network)
    }
}

impl tcp_create_socket::Host for State {
    fn create_tcp_socket(&mut self, _: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        self.no_socket("wasi.socket", "TCP")
    }
}

impl udp_create_socket::Host for State {
    async fn create_udp_socket(&mut self, _: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        self.no_socket("wasi.socket", "UDP")
    }
}

impl ip_name_lookup::Host for State {
    fn resolve_addresses(
        &mut self,
        _: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ip_name_lookup::ResolveAddressStream>> {
        self.no_socket("wasi.resolve", &name)
    }
}

impl ip_name_lookup::HostResolveAddressStream for State {
    fn resolve_next_address(&mut self, _: Resource<ip_name_lookup::ResolveAddressStream>) -> SocketResult<Option<IpAddress>> {
        Ok(None)
    }

    fn subscribe(&mut self, _: Resource<ip_name_lookup::ResolveAddressStream>) -> Result<Resource<DynPollable>> {
        Err(wasmtime::Error::msg("no name was ever looked up"))
    }

    fn drop(&mut self, _: Resource<ip_name_lookup::ResolveAddressStream>) -> Result<()> {
        Ok(())
    }
}
