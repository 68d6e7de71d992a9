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

use crate::state::InstanceState;

/// Name of the only preopened directory.
const ROOT: &str = "/";

/// Replaces the linked WASI interfaces of files and sockets by the denying versions.
pub(crate) fn link(linker: &mut Linker<InstanceState>) -> Result<()> {
    linker.allow_shadowing(true);
    types::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state)?;
    preopens::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state)?;
    tcp_create_socket::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state)?;
    udp_create_socket::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state)?;
    ip_name_lookup::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl InstanceState {
    fn deny_file<T>(&mut self, call: &'static str, path: &str) -> FsResult<T> {
        self.record_system_access(call, path);
        Err(ErrorCode::Access.into())
    }

    fn deny_socket<T>(&mut self, call: &'static str, what: &str) -> SocketResult<T> {
        self.record_system_access(call, what);
        Err(SocketCode::AccessDenied.into())
    }
}

/// Returns the error for an operation on an open file: the root is a directory.
fn not_a_file<T>() -> FsResult<T> {
    Err(ErrorCode::IsDirectory.into())
}

impl preopens::Host for InstanceState {
    fn get_directories(&mut self) -> Result<Vec<(Resource<Descriptor>, String)>> {
        // The handle is only a number for the guest and is never looked up.
        Ok(vec![(Resource::new_own(0), ROOT.to_owned())])
    }
}

impl types::Host for InstanceState {
    fn convert_error_code(&mut self, error: FsError) -> Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(&mut self, _: Resource<wasmtime::Error>) -> Result<Option<ErrorCode>> {
        // No file stream exists, so none can fail.
        Ok(None)
    }
}

type DirectoryHandle = Resource<Descriptor>;

impl HostDescriptor for InstanceState {
    async fn open_at(
        &mut self,
        _: DirectoryHandle,
        _: PathFlags,
        path: String,
        _: OpenFlags,
        _: DescriptorFlags,
    ) -> FsResult<DirectoryHandle> {
        self.deny_file("wasi.open", &path)
    }

    async fn stat_at(&mut self, _: DirectoryHandle, _: PathFlags, path: String) -> FsResult<DescriptorStat> {
        self.deny_file("wasi.stat", &path)
    }

    async fn readlink_at(&mut self, _: DirectoryHandle, path: String) -> FsResult<String> {
        self.deny_file("wasi.stat", &path)
    }

    async fn metadata_hash_at(&mut self, _: DirectoryHandle, _: PathFlags, path: String) -> FsResult<MetadataHashValue> {
        self.deny_file("wasi.stat", &path)
    }

    async fn read_directory(&mut self, _: DirectoryHandle) -> FsResult<Resource<DirectoryEntryStream>> {
        self.deny_file("wasi.list", ROOT)
    }

    async fn create_directory_at(&mut self, _: DirectoryHandle, path: String) -> FsResult<()> {
        self.deny_file("wasi.change", &path)
    }

    async fn set_times_at(
        &mut self,
        _: DirectoryHandle,
        _: PathFlags,
        path: String,
        _: NewTimestamp,
        _: NewTimestamp,
    ) -> FsResult<()> {
        self.deny_file("wasi.change", &path)
    }

    async fn link_at(&mut self, _: DirectoryHandle, _: PathFlags, path: String, _: DirectoryHandle, _: String) -> FsResult<()> {
        self.deny_file("wasi.change", &path)
    }

    async fn symlink_at(&mut self, _: DirectoryHandle, _: String, path: String) -> FsResult<()> {
        self.deny_file("wasi.change", &path)
    }

    async fn rename_at(&mut self, _: DirectoryHandle, path: String, _: DirectoryHandle, _: String) -> FsResult<()> {
        self.deny_file("wasi.change", &path)
    }

    async fn remove_directory_at(&mut self, _: DirectoryHandle, path: String) -> FsResult<()> {
        self.deny_file("wasi.change", &path)
    }

    async fn unlink_file_at(&mut self, _: DirectoryHandle, path: String) -> FsResult<()> {
        self.deny_file("wasi.change", &path)
    }

    async fn set_times(&mut self, _: DirectoryHandle, _: NewTimestamp, _: NewTimestamp) -> FsResult<()> {
        self.deny_file("wasi.change", ROOT)
    }

    // Operations that a language runtime performs on a directory before use.

    async fn get_flags(&mut self, _: DirectoryHandle) -> FsResult<DescriptorFlags> {
        Ok(DescriptorFlags::READ)
    }

    async fn get_type(&mut self, _: DirectoryHandle) -> FsResult<DescriptorType> {
        Ok(DescriptorType::Directory)
    }

    async fn stat(&mut self, _: DirectoryHandle) -> FsResult<DescriptorStat> {
        Ok(DescriptorStat {
            type_: DescriptorType::Directory,
            link_count: 1,
            size: 0,
            data_access_timestamp: None,
            data_modification_timestamp: None,
            status_change_timestamp: None,
        })
    }

    async fn metadata_hash(&mut self, _: DirectoryHandle) -> FsResult<MetadataHashValue> {
        Ok(MetadataHashValue { lower: 0, upper: 0 })
    }

    async fn is_same_object(&mut self, _: DirectoryHandle, _: DirectoryHandle) -> Result<bool> {
        Ok(true)
    }

    async fn advise(&mut self, _: DirectoryHandle, _: Filesize, _: Filesize, _: Advice) -> FsResult<()> {
        not_a_file()
    }

    async fn sync(&mut self, _: DirectoryHandle) -> FsResult<()> {
        not_a_file()
    }

    async fn sync_data(&mut self, _: DirectoryHandle) -> FsResult<()> {
        not_a_file()
    }

    async fn set_size(&mut self, _: DirectoryHandle, _: Filesize) -> FsResult<()> {
        not_a_file()
    }

    async fn read(&mut self, _: DirectoryHandle, _: Filesize, _: Filesize) -> FsResult<(Vec<u8>, bool)> {
        not_a_file()
    }

    async fn write(&mut self, _: DirectoryHandle, _: Vec<u8>, _: Filesize) -> FsResult<Filesize> {
        not_a_file()
    }

    fn read_via_stream(&mut self, _: DirectoryHandle, _: Filesize) -> FsResult<Resource<DynInputStream>> {
        not_a_file()
    }

    fn write_via_stream(&mut self, _: DirectoryHandle, _: Filesize) -> FsResult<Resource<DynOutputStream>> {
        not_a_file()
    }

    fn append_via_stream(&mut self, _: DirectoryHandle) -> FsResult<Resource<DynOutputStream>> {
        not_a_file()
    }

    fn drop(&mut self, _: DirectoryHandle) -> Result<()> {
        Ok(())
    }
}

impl HostDirectoryEntryStream for InstanceState {
    async fn read_directory_entry(&mut self, _: Resource<DirectoryEntryStream>) -> FsResult<Option<DirectoryEntry>> {
        Ok(None)
    }

    fn drop(&mut self, _: Resource<DirectoryEntryStream>) -> Result<()> {
        Ok(())
    }
}

impl network::Host for InstanceState {
    fn convert_error_code(&mut self, error: SocketError) -> Result<SocketCode> {
        error.downcast()
    }

    fn network_error_code(&mut self, _: Resource<wasmtime::Error>) -> Result<Option<SocketCode>> {
        Ok(None)
    }
}

impl network::HostNetwork for InstanceState {
    fn drop(&mut self, network: Resource<Network>) -> Result<()> {
        network::HostNetwork::drop(&mut wasmtime_wasi::sockets::WasiSocketsView::sockets(self), network)
    }
}

impl tcp_create_socket::Host for InstanceState {
    fn create_tcp_socket(&mut self, _: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        self.deny_socket("wasi.socket", "TCP")
    }
}

impl udp_create_socket::Host for InstanceState {
    async fn create_udp_socket(&mut self, _: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        self.deny_socket("wasi.socket", "UDP")
    }
}

impl ip_name_lookup::Host for InstanceState {
    fn resolve_addresses(
        &mut self,
        _: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ip_name_lookup::ResolveAddressStream>> {
        self.deny_socket("wasi.resolve", &name)
    }
}

impl ip_name_lookup::HostResolveAddressStream for InstanceState {
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
