r"""What Windows PowerShell 5.1 writes for the shipped scripts: its compressed JSON, as it is.

It escapes ``'``, ``<``, ``>`` and ``&``, ends lines with CR LF, and writes no value as null.
"""

from __future__ import annotations

OUTPUTS = {
    "get_service": r'[{"Name":"Spooler","DisplayName":"Print Spooler","Status":"Running",'
    r'"StartType":"Automatic"}]',
    "list_windows_services": r'[{"Name":"AppIDSvc","DisplayName":"Application Identity",'
    r'"Status":"Stopped","StartType":"Manual"},{"Name":"W32Time","DisplayName":"Windows Time",'
    r'"Status":"Running","StartType":"Automatic"}]',
    "get_process": r'[{"Id":4,"ProcessName":"System","CPU":1520.859375,"WorkingSet64":147456,'
    r'"StartTime":null},{"Id":6812,"ProcessName":"w3wp","CPU":12.03125,"WorkingSet64":88473600,'
    r'"StartTime":"2026-02-03T08:11:09.1265432+01:00"}]',
    "get_volume": r'[{"DriveLetter":null,"FileSystemLabel":"","FileSystem":"NTFS",'
    r'"Size":545255424,"SizeRemaining":76546048,"HealthStatus":"Healthy"},{"DriveLetter":"C",'
    r'"FileSystemLabel":"","FileSystem":"NTFS","Size":136365211648,"SizeRemaining":98453356544,'
    r'"HealthStatus":"Healthy"}]',
    "get_disk": r'[{"Number":0,"FriendlyName":"Virtual HD","SerialNumber":null,'
    r'"Size":136365211648,"HealthStatus":"Healthy","BusType":"SAS","PartitionStyle":"GPT"}]',
    "get_localuser": r'[{"Name":"Administrator","Enabled":true,"Description":"Built-in account '
    r'for administering the computer/domain","PasswordRequired":true,'
    r'"LastLogon":"2026-02-03T09:40:51.3105478+01:00",'
    r'"SID":"S-1-5-21-1004336348-1177238915-682003330-500"},{"Name":"Guest","Enabled":false,'
    r'"Description":"Built-in account for guest access","PasswordRequired":false,'
    r'"LastLogon":null,"SID":"S-1-5-21-1004336348-1177238915-682003330-501"}]',
    "get_localgroupmember": r'[{"Name":"WIN-01\\Administrator","ObjectClass":"User",'
    r'"PrincipalSource":"Local"},{"Name":"CORP\\Domain Admins","ObjectClass":"Group",'
    r'"PrincipalSource":"ActiveDirectory"}]',
    "get_netipaddress": r'[{"InterfaceAlias":"Ethernet","IPAddress":"fe80::5e2:ab1:77f1:31ab%6",'
    r'"PrefixLength":64,"AddressFamily":"IPv6","PrefixOrigin":"WellKnown"},'
    r'{"InterfaceAlias":"Ethernet","IPAddress":"10.0.0.5","PrefixLength":24,'
    r'"AddressFamily":"IPv4","PrefixOrigin":"Manual"}]',
    "get_dnsclientserveraddress": r'[{"InterfaceAlias":"Ethernet","ServerAddresses":["10.0.0.2",'
    r'"10.0.0.3"]},{"InterfaceAlias":"Ethernet","ServerAddresses":[]},'
    r'{"InterfaceAlias":"Loopback Pseudo-Interface 1","ServerAddresses":[]}]',
    "get_nettcpconnection": r'[{"LocalAddress":"::","LocalPort":5986,"RemoteAddress":"::",'
    r'"RemotePort":0,"State":"Listen","OwningProcess":4}]',
    "get_netadapter": r'[{"Name":"Ethernet","InterfaceDescription":"Microsoft Hyper-V Network '
    r'Adapter","Status":"Up","MacAddress":"00-15-5D-01-7A-03","LinkSpeed":"10 Gbps"}]',
    "get_netroute": r'[{"DestinationPrefix":"0.0.0.0/0","NextHop":"10.0.0.1","InterfaceAlias":'
    r'"Ethernet","RouteMetric":256,"Protocol":"NetMgmt"}]',
    "get_winevent": r'[{"TimeCreated":"2026-02-03T10:15:30.1234567+01:00","Id":7036,'
    r'"LevelDisplayName":"Information","ProviderName":"Service Control Manager","Message":"The '
    r"Print Spooler service entered the \u0027stopped\u0027 state.\r\nSee \u003chttps://x\u003e "
    r'\u0026 more."},{"TimeCreated":"2026-02-03T10:10:01.0000000+01:00","Id":10016,'
    r'"LevelDisplayName":"","ProviderName":"Microsoft-Windows-DistributedCOM","Message":null}]',
    "get_hotfix": r'[{"HotFixID":"KB5034122","Description":"Update",'
    r'"InstalledOn":"2026-01-10T00:00:00.0000000"},{"HotFixID":"KB5034466",'
    r'"Description":"Security Update","InstalledOn":null}]',
    "get_certificate": r'[{"Subject":"CN=win-01.corp.example, O=\"Example, Inc.\"",'
    r'"Thumbprint":"0563B8630D62D75ABBC8AB1E4BDFB5A899B24D43",'
    r'"NotAfter":"2026-03-01T12:00:00.0000000+01:00"}]',
    "get_computerinfo": r'[{"CSName":"WIN-01","Caption":"Microsoft Windows Server 2022 Standard",'
    r'"Version":"10.0.20348","BuildNumber":"20348","OSArchitecture":"64-bit",'
    r'"TotalVisibleMemorySize":4193268,"FreePhysicalMemory":2116504,'
    r'"LastBootUpTime":"2026-01-28T03:12:44.5000000+01:00"}]',
    "get_content": r'["2026-02-03 10:00:00 started","","\ufeff\u0026 \u003cerror\u003e '
    r'C:\\Temp\\a.txt","last"]',
    "get_filehash": r'[{"Path":"C:\\Temp\\a.txt","Algorithm":"SHA256","Hash":"E3B0C44298FC1C149AFBF'
    r'4C8996FB92427AE41E4649B934CA495991B7852B855"}]',
    "get_childitem": r'[{"Name":"logs","Length":null,"Mode":"d-----",'
    r'"LastWriteTime":"2026-02-01T07:00:00.0000000+01:00"},{"Name":"a.txt","Length":12,'
    r'"Mode":"-a----","LastWriteTime":"2026-02-03T10:00:00.1234567+01:00"}]',
    "get_scheduledtask": r'[{"TaskName":"Backup","TaskPath":"\\","State":"Ready",'
    r'"LastTaskResult":267011,"LastRunTime":"1999-11-30T00:00:00.0000000","NextRunTime":null}]',
    "get_iis_site": r'[{"Name":"Default Web Site","State":"Started","PhysicalPath":'
    r'"%SystemDrive%\\inetpub\\wwwroot","Bindings":["*:80:"]}]',
    "get_registry_value": r'[{"ProgramFilesDir":"C:\\Program Files"}]',
    "get_cim_instance": r'[{"Caption":"WIN-01","Domain":"corp.example","NumberOfProcessors":2,'
    r'"Roles":["LM_Workstation","LM_Server","NT"],"TotalPhysicalMemory":4293906432,'
    r'"BootROMSupported":true}]',
    "get_counter": r'[{"Path":"\\\\win-01\\processor(_total)\\% processor time",'
    r'"InstanceName":"_total","CookedValue":3.1274059418273}]',
    "resolve_dnsname": r'[{"Name":"example.com","Type":"A","TTL":1800,"Data":"93.184.215.14"}]',
    "test_connection": r"[]",
    "get_adgroupmember": r'[{"SamAccountName":"alice","name":"Alice O\u0027Neil",'
    r'"objectClass":"user","SID":"S-1-5-21-1004336348-1177238915-682003330-1104"}]',
    "search_aduser": r"[]",
    "get_installed_software": r'[{"DisplayName":"Microsoft Visual C++ 2015-2022 Redistributable '
    r'(x64)","DisplayVersion":"14.38.33130.0","Publisher":"Microsoft Corporation",'
    r'"InstallDate":null}]',
    "stop_windows_service": r'[{"Name":"Spooler","DisplayName":"Print Spooler",'
    r'"Status":"Stopped","StartType":"Automatic"}]',
    "test_netconnection": r'[{"ComputerName":"db-01","RemotePort":5432,"TcpTestSucceeded":false,'
    r'"RemoteAddress":""}]',
    "test_path": r'[{"Path":"C:\\Temp","Exists":true}]',
}
"""By name of the tool."""

CAPTURED = {
    "existed": "existed=false",
    "enabled": "enabled=true",
    "state": "state=Ready",
    "status": "status=Running",
    "start_type": "start_type=Manual",
}
"""By name of the captured value."""

ERROR = (
    "Cannot find any service with service name 'nothing'.\r\n"
    "At line:2 char:6\r\n+ $r=@(Get-Service -Name $service_name | Select-Object 'Name'\r\n"
)
"""What the error stream holds after a failure."""
