# Answers requests until the input ends. A request is one line of JSON, {number, call, with}: the name
# of a function of the list below and its parameters, each value, or each of a list, as base64 of UTF-8.
# So nothing in it can be taken for script, for a date or for an end of line. An answer is one line,
# "coracle-answer NUMBER BASE64", of JSON: {ok, result} or {ok, error}. It is written past the host, whose
# encoding depends on the system; whatever else turns up there is no answer.

$coracleCalls = @(
    'Get-CoracleHost',
    'Get-CoraclePlatform',
    'Find-CoracleMachine',
    'Set-CoracleMachine',
    'Start-CoracleMachine',
    'Suspend-CoracleMachine',
    'Resume-CoracleMachine',
    'Save-CoracleMachine',
    'Request-CoracleShutdown',
    'Stop-CoracleMachine',
    'Remove-CoracleMachine',
    'New-CoracleDisk',
    'Resize-CoracleDisk',
    'Get-CoracleAddress'
)
$coracleOutput = [System.Console]::OpenStandardOutput()

function ConvertFrom-CoracleText {
    param([string] $Text)
    return [System.Text.Encoding]::UTF8.GetString([System.Convert]::FromBase64String($Text))
}

function ConvertTo-CoracleError {
    param($Record)
    $exception = $Record.Exception
    while ($null -ne $exception.InnerException) { $exception = $exception.InnerException }
    return @{
        category = "$($Record.CategoryInfo.Category)"
        id       = "$($Record.FullyQualifiedErrorId)"
        message  = "$($Record.Exception.Message)"
        code     = ('0x{0:X8}' -f $exception.HResult)
    }
}

function Write-CoracleAnswer {
    param([long] $Number, $Answer)
    $json = ConvertTo-Json -InputObject $Answer -Compress -Depth 6
    $text = [System.Convert]::ToBase64String([System.Text.Encoding]::UTF8.GetBytes($json))
    $bytes = [System.Text.Encoding]::ASCII.GetBytes("`ncoracle-answer $Number $text`n")
    $coracleOutput.Write($bytes, 0, $bytes.Length)
    $coracleOutput.Flush()
}

Write-CoracleAnswer -Number 0 -Answer @{ ok = $true; result = @{ powershell = "$($PSVersionTable.PSVersion)" } }
while ($true) {
    $line = [System.Console]::In.ReadLine()
    if ($null -eq $line) { break }
    if ($line.Trim() -eq '') { continue }
    $number = [long] -1
    try {
        $request = ConvertFrom-Json -InputObject $line
        $number = [long] $request.number
        $call = "$($request.call)"
        if ($coracleCalls -cnotcontains $call) {
            Stop-Coracle -Id 'CoracleUnknownCall' -Message 'there is no such call'
        }
        $arguments = @{}
        foreach ($property in $request.with.PSObject.Properties) {
            if ($property.Value -is [array]) {
                $values = @()
                foreach ($text in $property.Value) { $values += ConvertFrom-CoracleText -Text $text }
                $arguments[$property.Name] = [string[]] $values
            } else {
                $arguments[$property.Name] = ConvertFrom-CoracleText -Text $property.Value
            }
        }
        $results = @(& $call @arguments)
        $answer = @{ ok = $true; result = $results[-1] }
    } catch {
        $answer = @{ ok = $false; error = (ConvertTo-CoracleError -Record $_) }
    }
    Write-CoracleAnswer -Number $number -Answer $answer
}
exit 0
